// Strings of tools that read credentials.

rule lsass_minidump_tooling
{
    meta:
        description = "Strings of tools that read credentials"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $comsvcs = "comsvcs.dll" nocase wide ascii
        $minidump = "MiniDump" nocase wide ascii
        $lsass = "lsass" nocase wide ascii
    condition:
        all of them and filesize < 5MB
}
