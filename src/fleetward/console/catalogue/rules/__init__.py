"""Detection rules read out of files, and what changed between two sets of them.

Pure: bytes in, values out; no disk, no clock, no database. Readers are tolerant (an engine is the
judge of a rule, not the console), take time proportional to what they read whatever it holds, and
never raise for content.

`yara`, `suricata`, `clamav`, `sigma` each read one family; `reading` chooses by a file's name;
`changes` compares.
"""
