// JSP that starts a process with a request's parameter.

rule jsp_runtime_exec_of_parameter
{
    meta:
        description = "JSP that starts a process with a request's parameter"
        author = "Fleetward sample content"
        date = "2026-11-22"
    strings:
        $page = "<%"
        $exec = "Runtime.getRuntime().exec(" nocase
        $parameter = "request.getParameter(" nocase
    condition:
        $page in (0..1024) and $exec and $parameter and filesize < 128KB
}
