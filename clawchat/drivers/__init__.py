"""Drivers: what runs the core on a real machine. Sockets, clocks, files and threads live here.

| module                               | what it is                                            |
|--------------------------------------|-------------------------------------------------------|
| `clock`, `address`, `sockets`, `engine` | shared by every driver: time, UDP, turning the crank |
| `on_trio`, `on_asyncio`, `blocking`  | one page each: when to turn it                        |
| `peer`, `stream`, `listener`, `feed` | the face for Python programs, on Trio                 |
| `connecting`, `serving`              | `clawchat.connect` and `clawchat.serve`               |
| `store`, `publisher`, `files`        | credentials and bootstrap files on disk               |
| `simulator`                          | virtual time, networks that misbehave, replay         |
"""
