// Loaders that inject into a process of their own.

rule classic_remote_thread_imports
{
    meta:
        description = "Loaders that inject into a process of their own"
        author = "Fleetward sample content"
        date = "2026-11-23"
    strings:
        $alloc = "VirtualAllocEx" ascii
        $write = "WriteProcessMemory" ascii
        $thread = "CreateRemoteThread" ascii
    condition:
        uint16(0) == 0x5a4d and all of them and filesize < 3MB
}
