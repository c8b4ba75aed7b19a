"""What a trainer is given, from the forms that users write to what the rest works with. Starts nothing."""
