"""The protocol itself, without input or output (PROTOCOL.md).

Rules: no clock, dice, socket, file, thread or log; the same events give the same actions.
Left to others: everything that touches the outside world (`clawchat.drivers`).

A map, from the outside in; each knows what stands below it, and pyproject.toml holds them to it:

- what goes in and comes out: `events`, `actions`, `credential`, `config`
- `endpoint`: datagrams find their links. Beside it stand `reception` and `admission` (who is
  answered), `clones` (`untold`), `issuing`, `destruction`, `application`, `links`, `agenda`
- `link`: one peer. `opening` begins it (`exchange` has the messages), `upkeep` keeps it: `ratchet`
  (keys), `ports`, `roaming`, `telling` (of copies); `undoing` destroys it
- `transport`: one link's data. `inbound` takes packets apart, `payloads` and `cells` fill new ones,
  `outbound` seals them, `whereabouts` and `paths` know where the peer is, `epochs` has the keys
- `phases`: the machines, as tables (`table`); `streams`; `recovery`; `crypto`; `wire`
"""
