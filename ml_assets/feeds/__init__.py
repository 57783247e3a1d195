"""Source systems of real data that land files the way an operator's systems would."""
