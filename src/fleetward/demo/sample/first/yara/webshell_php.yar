// PHP that runs what a request says.

rule php_request_reaches_eval
{
    meta:
        description = "PHP that runs what a request says"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $open = "<?php" nocase
        $eval = /(eval|assert|system|passthru|shell_exec|popen)\s*\(\s*(base64_decode\s*\(\s*)?\$_(GET|POST|REQUEST|COOKIE)/ nocase
    condition:
        $open in (0..512) and $eval and filesize < 256KB
}

rule php_long_packed_line
{
    meta:
        description = "PHP that runs what a request says"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $open = "<?php" nocase
        $packed = /gzinflate\s*\(\s*base64_decode\s*\(\s*['"][A-Za-z0-9+\/=]{400}/ nocase
    condition:
        $open in (0..512) and $packed
}
