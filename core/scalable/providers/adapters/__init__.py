"""Worker adapters: starting and stopping worker groups on request, in this process or in another one."""
