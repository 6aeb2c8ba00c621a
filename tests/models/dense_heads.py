"""torchvision's VGG and AlexNet for images of any size."""

import numpy as np

from tests.oracles import randomise, torch_or_skip, torchvision_or_skip


def on_no_device(name, **settings):
    """torchvision's network of that name with names and shapes, and no numbers."""
    torch, torchvision = torch_or_skip(), torchvision_or_skip()
    with torch.device("meta"):
        return getattr(torchvision.models, name)(**settings)


def with_small_head(theirs, features, hidden, classes):
    """The network with dense layers of other sizes, He normal weights, random biases, float64.

    torchvision averages the base's output to the one size that its dense layers take, whatever the
    image; at that size it is what it was. Here they take it as it comes, ``features`` numbers.
    """
    torch = torch_or_skip()
    sizes = [(features, hidden), (hidden, hidden), (hidden, classes)]
    linear = [n for n, m in theirs.classifier.named_children() if isinstance(m, torch.nn.Linear)]
    for name, (inputs, outputs) in zip(linear, sizes, strict=True):
        theirs.classifier[int(name)] = torch.nn.Linear(inputs, outputs)
    theirs.avgpool = torch.nn.Identity()
    theirs.features.to_empty(device="cpu")
    return he_normal(randomise(theirs))


def he_normal(theirs):
    """Filters and dense weights that keep signals at their size; returns the network."""
    torch = torch_or_skip()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in theirs.parameters():
            if p.ndim > 1:
                p.normal_(0, np.sqrt(2 / p[0].numel()), generator=generator)
    return theirs
