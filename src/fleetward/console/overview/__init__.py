"""The overview: is the fleet protected, how fast, what is wrong now, what is under way.

Counting a fleet of 50,000 hosts takes a second, so it is done in the background (`counting`), into
small rows per site; the page adds up what the person may see.
"""
