"""Flight delays of New York's airports in 2013: will this flight arrive more than 15 minutes late?"""
