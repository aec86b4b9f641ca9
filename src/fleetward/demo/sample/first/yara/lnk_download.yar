// Shortcuts that download.

rule lnk_starts_downloader
{
    meta:
        description = "Shortcuts that download"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $tool1 = "mshta" nocase wide ascii
        $tool2 = "certutil" nocase wide ascii
        $tool3 = "bitsadmin" nocase wide ascii
        $url = /https?:\/\/[a-z0-9.\-]{4,100}\// nocase wide ascii
    condition:
        uint32(0) == 0x0000004c and any of ($tool*) and $url and filesize < 64KB
}
