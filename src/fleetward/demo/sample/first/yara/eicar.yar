// EICAR, the harmless test file that every scanner agrees on.

rule eicar_test_file
{
    meta:
        description = "EICAR, the harmless test file that every scanner agrees on"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $marker = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!"
        $start = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D 24 }
    condition:
        $start at 0 and $marker and filesize < 1KB
}
