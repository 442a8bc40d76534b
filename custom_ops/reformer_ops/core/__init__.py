"""What an operator consists of, in every framework. Nothing here knows a particular operator."""
