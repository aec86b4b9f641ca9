// Notes that ask for money for files.

rule ransom_note_text
{
    meta:
        description = "Notes that ask for money for files"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $files = "your files have been encrypted" nocase wide ascii
        $pay1 = "bitcoin" nocase wide ascii
        $pay2 = "monero" nocase wide ascii
        $tor = ".onion" nocase wide ascii
        $key = "private key" nocase wide ascii
    condition:
        filesize < 64KB and $files and any of ($pay*) and ($tor or $key)
}
