"""click commands: parse, call, print. No decisions."""
