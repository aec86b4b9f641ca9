// PowerShell that hides what it does.

rule powershell_encoded_and_hidden
{
    meta:
        description = "PowerShell that hides what it does"
        author = "Fleetward sample content"
        date = "2026-11-23"
    strings:
        $ps = "powershell" nocase wide ascii
        $enc = /-e(nc|ncodedcommand)?\s+[A-Za-z0-9+\/=]{40}/ nocase wide ascii
        $hidden = /-w(indowstyle)?\s+hidden/ nocase wide ascii
    condition:
        all of them and filesize < 2MB
}

rule powershell_amsi_bypass
{
    meta:
        description = "PowerShell that hides what it does"
        author = "Fleetward sample content"
        date = "2026-11-23"
    strings:
        $amsi = "AmsiUtils" nocase wide ascii
        $field = "amsiInitFailed" nocase wide ascii
    condition:
        all of them
}
