// Ways to start again on Linux.

rule cron_fetches_and_runs
{
    meta:
        description = "Ways to start again on Linux"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $cron = /\*\s+\*\s+\*\s+\*\s+\*.{0,40}(curl|wget)\s.{4,200}\|\s*(ba)?sh/
    condition:
        $cron and filesize < 64KB
}

rule ld_preload_file
{
    meta:
        description = "Ways to start again on Linux"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $path = /\/(tmp|dev\/shm|var\/tmp)\/[\w.\-]{1,40}\.so/
    condition:
        filesize < 512 and $path at 0
}
