// Settings of coin miners.

rule xmrig_like_configuration
{
    meta:
        description = "Settings of coin miners"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $pools = "\"pools\"" ascii
        $donate = "donate-level" ascii
        $stratum = "stratum+tcp://" ascii
        $algo = "\"algo\"" ascii
    condition:
        filesize < 128KB and $stratum and 2 of ($pools, $donate, $algo)
}
