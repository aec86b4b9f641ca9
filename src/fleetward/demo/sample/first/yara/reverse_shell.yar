// One-line reverse shells in scripts.

rule bash_dev_tcp_reverse_shell
{
    meta:
        description = "One-line reverse shells in scripts"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $tcp = /bash\s+-i\s*>&?\s*\/dev\/tcp\/[0-9a-z.\-]{4,64}\/[0-9]{2,5}/ nocase
    condition:
        $tcp and filesize < 1MB
}

rule python_pty_reverse_shell
{
    meta:
        description = "One-line reverse shells in scripts"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $socket = "socket.socket("
        $dup = "os.dup2("
        $pty = "pty.spawn("
    condition:
        all of them and filesize < 1MB
}

rule netcat_mkfifo_shell
{
    meta:
        description = "One-line reverse shells in scripts"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $fifo = /mkfifo\s+\/tmp\/[a-z]{1,12}/
        $nc = /\|\s*nc(at)?\s/
    condition:
        all of them and filesize < 1MB
}
