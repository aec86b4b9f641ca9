// ELF files that were packed.

rule elf_upx_packed
{
    meta:
        description = "ELF files that were packed"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $upx = "UPX!" ascii
        $info = "$Info: This file is packed with the UPX" ascii
    condition:
        uint32(0) == 0x464c457f and ($info or #upx > 2)
}
