"""The port watch as a command: who listens, who speaks, and is that what we expect?"""
