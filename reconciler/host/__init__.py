"""The open machine: netlink, TUNs, processes, files, locks. Connections and raw tools, no knowledge of kinds."""
