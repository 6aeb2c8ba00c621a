"""The networks of chapter 3 beside other libraries': the same numbers, then time and memory."""
