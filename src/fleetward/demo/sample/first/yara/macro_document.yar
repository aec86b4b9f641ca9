// Office macros that start a shell when a document is opened.

rule office_autoopen_starts_shell
{
    meta:
        description = "Office macros that start a shell when a document is opened"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $ole = { D0 CF 11 E0 A1 B1 1A E1 }
        $auto1 = "AutoOpen" nocase wide ascii
        $auto2 = "Document_Open" nocase wide ascii
        $auto3 = "Workbook_Open" nocase wide ascii
        $shell1 = "WScript.Shell" nocase wide ascii
        $shell2 = "powershell" nocase wide ascii
        $shell3 = "cmd.exe /c" nocase wide ascii
    condition:
        $ole at 0 and any of ($auto*) and any of ($shell*)
}
