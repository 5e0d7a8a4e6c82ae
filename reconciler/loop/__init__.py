"""The only room that knows all others: one pass, the commands made of it, and what starts them."""
