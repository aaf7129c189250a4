"""Every bound of the product in one place, each with the reason for its size."""

from __future__ import annotations

HANDSHAKE_SECONDS = 10.0
"""A client must name its destination within this; longer is a stuck or hostile peer."""

CONNECT_SECONDS = 10.0
"""One destination's whole dial. Containers are local: a SYN unanswered for 10 s stays unanswered."""

ATTEMPT_DELAY_SECONDS = 0.25
"""Between two attempts at the addresses of one name: RFC 8305 §5 recommends it; containers answer within 1 ms."""

PARALLEL_ATTEMPTS = 8
"""Attempts of one dial under way at once: with the delay above each has two seconds, time for a SYN to be repeated."""

MAX_ATTEMPTS = 32
"""Addresses of one name that are tried: with the delay above they fit into CONNECT_SECONDS."""

NAME_SECONDS = 5.0
"""Lookup of a name that is not a container's, through the engine's own resolver."""

PROBE_IDLE_SECONDS, PROBE_INTERVAL_SECONDS, PROBES = range(60, 131), 15, 4
"""TCP keepalive: a peer that vanished without a word is given up after two or three minutes. Each connection has an
idle time of its own (``keepalive``); above 131 s Linux's timers are so coarse that many are due at once."""

KEEP_ALIVE_SECONDS = 75.0
"""Idle HTTP proxy connections; nginx's default, and longer than browsers keep theirs."""

RESPONSE_SECONDS = 3600.0
"""Wait for an HTTP response or the next body bytes: long polls and slow builds are legitimate."""

MAX_INTERIM_RESPONSES = 64
"""1xx heads before the final one: a server that sends them without end must not keep us busy."""

STILL_THERE_SECONDS = 1.0
"""A client that ended its stream and awaits an answer may be gone; most answers come sooner than we ask."""

LINGER_SECONDS = 2.0
"""Reading on after an error reply, so that a reset does not eat it (RFC 9112 §9.6)."""

DRAIN_SECONDS = 5.0
"""Open connections may finish within this after SIGTERM; Docker kills after 10 s."""

PAGE_PORTS, PAGE_PORT_SECONDS = 8, 0.5
"""Exposed ports that are tried for an error page: hardly an image has more, and each is a connection to its program.
For all of them together: a container answers within 1 ms, and a person waits for the page."""

MAX_SOCKS4_USER_BYTES = 255
"""A SOCKS4 USERID, whose length the protocol leaves open: as long as RFC 1929 lets a user name be."""

MAX_HEAD_BYTES = 32 * 1024
"""An HTTP head; twice Apache's 16 KiB, nginx allows 4 × 8 KiB."""

MAX_CHUNK_LINE_BYTES = 4096
"""A chunk-size line with its extensions, which nobody uses."""

MAX_TRAILER_BYTES = 16 * 1024
"""The trailer section of a chunked body; half of a head."""

MAX_IDLE_UPSTREAMS = 8
"""Kept-alive server connections of one client; browsers use six per host."""

BODY_BUFFER_BYTES = 256 * 1024
"""One read of an HTTP body; larger buys nothing measurable."""

MAX_CLIENTS_PER_WORKER = 16_384
"""Beyond it whoever has not said what it wants is given up; when all have, accepting pauses and the kernel's backlog
holds the others. About 3 KiB of memory each."""

FRESH_SECONDS = 1.0
"""A client that came within this is not given up as silent: of a burst of 10,000, on two busy processors, up to 63
were cut amid their handshake without it. When silent clients take all places at once, others wait about so long."""

GUESTS_PER_SEARCH = 64
"""Clients looked at for one to give up, for each that comes: few are busy as long as they are no relay."""

CONNECTIONS_TOLD = 1000
"""Open connections told to a person, by each worker and by all together: about 200 KiB, made in 3 ms."""

ANSWER_SECONDS = 1.0
"""Wait for what a worker is asked; one that is that busy is left out, and the answer says so."""

PAUSE_SECONDS = 0.1
"""How long accepting pauses when a worker is full or has no descriptors left: siblings take what waits meanwhile."""

RELIEVED_SECONDS = 5.0
"""Accepting without a pause for so long counts as relief: at the edge both would be logged for every client."""

SESSION_TEXT_CHARS = 512
"""Of a target or a detail in the log: a host name has 255 characters, a path what a client likes."""

PAC_DOMAINS = 1000
"""Label domains named in the PAC file: browsers compare all for each request."""

MAX_RULES = 256
"""``--allow`` and ``--deny`` together; each is tried for every address that is no container's."""

KNOWN_PEERS = 1024
"""Peers whose admission is remembered: a host has a handful of addresses, and a scan must not fill memory."""

REFUSALS_TOLD_PER_SECOND = 10
"""Log lines about containers at the door, for each worker: whoever is refused must not fill the disk."""

FDS_PER_CLIENT = 2.25
"""Descriptors that a client holds on average: two sockets, and for one in eight a pipe. Measured: 2.0 with idle relays
and with chatting ones, 2.1 when a sixth carry bulk, 4 for one whose reader is behind. Beyond that buffers take the
place of pipes, and accepting pauses."""

LISTEN_BACKLOG = 4096
"""The kernel's own default bound (somaxconn) since Linux 5.4."""

DEADLINE_TICK_SECONDS = 0.25
"""How late a peer's deadline may be noticed: little beside the seconds that deadlines have."""

EVENTS_PER_TURN = 256
"""Readiness events handled before timers and other tasks run again."""

RELAY_TURN_BYTES = 4 * 1024 * 1024
"""Bytes one direction may move before others have their turn: about 2 ms at 16 Gbit/s."""

RELAY_BULK_BYTES, RELAY_BULK_SECONDS = 4 * 1024 * 1024, 5.0
"""After so many bytes one way within such a time a relay of the tunnel goes on in a process for such
(``relay/carrier.py``). With bulk among handshakes a connection beside four downloads took 44 ms instead of 2 (median).
Small messages back and forth never move half as much, and would wait there for what stands back."""

CARRIED_RELAYS = 4096
"""In that process; others stay where they are. Each has two descriptors there."""

CARRIED_SOCKET_BYTES = 512 * 1024
"""Asked for as buffers of what is carried, or may be: what is under way fits. With 256 KiB half the rate is left."""

CARRIER_PIPE_BYTES, CARRIER_TURN_BYTES = 128 * 1024, 128 * 1024
"""Moved in one call and one turn: with 512 KiB a connection beside four downloads took 7 ms instead of 5 (p99)."""

CARRIER_TELLS_SECONDS, CARRIER_AGAIN_SECONDS = 0.25, 1.0
"""How often it says what it has moved; and before it is started again, should it end."""

PIPE_BYTES = 1024 * 1024
"""Size asked for a relay pipe: the kernel's unprivileged maximum (pipe-max-size)."""

FREE_PIPES = 32
"""Empty pipes kept for the next wake-up; more than that are in use only while peers are slow."""

COPY_BYTES = 64 * 1024
"""Buffer of a direction for which no pipe is to be had."""

FIRST_INVENTORY_SECONDS = 2.0
"""A new worker leaves clients in the backlog until it knows the containers, but not for longer: then it says so."""

DIALER_BATCH = 64
"""Unconnected sockets asked for at once, when half as many are left: 1 ms of supply at 64,000 connections/s.
The kernel allows 253 in one message (SCM_MAX_FD)."""

PROBE_BATCH = 16
"""Likewise for datagram sockets: one for each address dialed that is no container's, one or two for a UDP source."""

DIALER_SECONDS = 2.0
"""Wait for a socket while the dialer restarts; a container starts in about 0.3 s."""

DIALER_LONELY_SECONDS = 60.0
"""A dialer without clients ends itself, so that a removed agent leaves nothing running."""

BUS_MESSAGE_BYTES = 64 * 1024 * 1024
"""One message between control and a worker: an inventory of 10,000 containers is about 6 MiB."""

LOOKUPS_IN_FLIGHT = 32
"""Names outside Docker looked up at once by one worker: each takes a thread."""

DNS_UDP_BYTES = 1232
"""Largest UDP answer: fits IPv6's least MTU of 1280, so it is never fragmented (DNS Flag Day 2020)."""

DNS_QUERY_BYTES = 4096
"""Largest query: a name has at most 255 bytes; the rest leaves room for options nobody sends."""

DNS_QUERIES_PER_TURN = 32
"""Queries one socket or connection may have answered before others run: about 2 ms, when names have few addresses.
A worker has memory for so many datagrams: about 170 KiB."""

DNS_PATIENCE_SECONDS = 0.002
"""A datagram that has waited longer is any worker's; before, it is one worker's alone. Shorter than any client's
patience, longer than one needs for as many queries as a busy client keeps under way (100 of 11 µs)."""

DNS_LOOK_SECONDS = 0.01
"""How often the other workers look whether one has, while there are queries: a look costs as much as eight answers."""

DNS_CACHE_ANSWERS = 16_384
"""Encoded answers kept for names that exist: 4,000 names asked in four ways, about 6 MiB."""

DNS_CACHE_ANSWERS_PER_NAME = 16
"""Types, EDNS sizes and flags of one name; more is somebody making keys unique."""

DNS_CACHE_PASSING = 2048
"""Encoded answers for names without end (unknown ones, wildcards); forgotten at every change."""

DNS_SERVICES = 256
"""SRV records of one name: an image may expose 65,535 ports, and each record takes 20 µs to encode."""

DNS_TURNS = 8
"""Orders in which the addresses of replicas are kept for one query: each of the first eight is first in turn."""

DNS_FORWARDS_IN_FLIGHT = 256
"""Different questions put to other servers at once, by one worker; each has a socket. A page of a browser asks 50."""

DNS_FORWARDS_WAITING = 1024
"""Clients' queries that wait for those; beyond it they are told SERVFAIL at once."""

DNS_SERVERS = 3
"""Name servers asked; as many as libc reads (resolv.conf(5), MAXNS)."""

DNS_FORWARD_SECONDS = 5.0
"""For an answer from elsewhere: as long as libc waits for us (resolv.conf(5), timeout)."""

DNS_SERVER_SECONDS = 1.2
"""For one server's answer, so that two are tried twice in that time."""

DNS_FORWARD_CACHE_BYTES = 2 * 1024 * 1024
"""Answers from elsewhere kept by one worker: about 10,000."""

DNS_TTL_MOST = 3600
"""Seconds that an answer from elsewhere is fresh at most; RFC 8767 §4 lets a server cap it."""

DNS_STALE_SECONDS = 86_400
"""After its TTL an answer is given for so long while no server can be reached (RFC 8767 §5: one to three days)."""

DNS_STALE_ANSWER_SECONDS, DNS_STALE_TTL = 1.8, 30
"""RFC 8767 §5: wait so long before giving a stale answer, for so many seconds; then ask again."""

DNS_LOOP_SECONDS = 60.0
"""For so long a server that asks us is not asked: networks change."""

DNS_TCP_CLIENTS, DNS_TCP_IDLE_SECONDS = 256, 10.0
"""DNS connections of one worker; beyond it the one longest idle is closed (RFC 7766 §6.2.2). Between whole queries on
one of them; §6.2.3 asks for "the order of a few seconds"."""

HOST_FORWARDS, HOST_FORWARD_SECONDS = 256, 4.0
"""Queries that the host's forwarder has under way, each with a socket; beyond it libc is sent on to the next server.
For the agent's answer: libc gives up a server after 5 s (resolv.conf(5), timeout) and must hear REFUSED before."""

UDP_ASSOCIATIONS = 512
"""Of the whole agent: three descriptors each, and with all the destinations they may have about 20 MiB."""

UDP_ASSOCIATIONS_PER_ADDRESS = 256
"""Half of all: behind docker-proxy every program of the host has the same address. Sources of one address likewise."""

UDP_DESTINATIONS = 64
"""Of one source; the one not sent to for longest is forgotten. Programs speak to a handful of servers."""

UDP_IDLE_SECONDS = 120.0
"""A source without datagrams is forgotten: no sooner than RFC 4787 §4.3 (REQ-5) allows, and no later, since
docker-proxy forgets after 90 s, and the client's next datagram then comes from a port that needs the association."""

UDP_ROUTE_SECONDS = 10.0
"""A destination is looked up and judged again after so long, and at every change of the containers."""

UDP_REFUSED_SECONDS = 1.0
"""Likewise after a failure: a client that repeats its query is soon told better, one that floods asks us once."""

UDP_LOOKUPS = 64
"""Destinations being looked up and judged at once, of all sources: containers' take one turn of the loop."""

UDP_LOOKUPS_PER_SOURCE = 8
"""So that a source whose names time out leaves the others theirs."""

UDP_HELD_BYTES = 1024 * 1024
"""Payload that waits for such lookups, of all sources: beyond it datagrams are dropped."""

UDP_SOCKETS_PER_TURN, UDP_DATAGRAMS_PER_SOCKET = 8, 16
"""Datagrams relayed before others run again: 128, about 2 ms, as much as a TCP relay may take."""

HANDOVER_LINKS, HANDOVER_ATTEMPTS, HANDOVER_SECONDS = 16, 40, 0.05
"""Processes that hand clients over: five at most, and what is left of dead ones for a moment. And how often, and how
soon again, one that no worker has room for is tried: 278 wait for each, and of 1,000 at once 444 were lost."""

LINKS = 16
"""Hosts that have a link at once: each has an address, and 8 MiB of packets that may wait for it."""

LINK_HELLO_SECONDS, LINK_CONFIG_SECONDS = 5.0, 5.0
"""From the upgrade to the host's hello, which it has at hand; and from that to the agent's config, which it has at
hand as well, once it has asked its engine."""

LINK_UNREAD_BYTES = 160 * 1024
"""Asked for as the link's receive buffer in the agent: what is under way at 8 Gbit/s and 0.15 ms. With three times as
much a ping beside an upload took half as long again, and the upload was no faster."""

LINK_RESERVE = 32
"""Places for packets that the gateway makes itself (pings, datagrams), which bulk from the device may not take."""

TUNNEL_SOCKET_BYTES = 256 * 1024
"""Asked for as buffers of a flow's TCP in the agent: what a fast flow has under way fits, and a slow one's packets do
not fill the device, where others must wait behind them. With 1 MiB a new connection beside four downloads took twice as
long, and one stream was up to a fifth faster; 128 KiB halves that wait again, and costs a fifth of the rate."""

DEVICE_PACKETS = 8192
"""A device's queue, on the host and in the agent: packets that the kernel has for us while we do something else; beyond
it they are lost. Thousands of connections may be ended, or probed, at once, and a reset is sent only once: with Linux's
own 500, two thirds of 500 connections that ended together stayed open in the agent."""

TUNNEL_DIALS = 2048
"""Connections whose SYN is held, or let through and not accepted yet; one beyond it is dropped, and comes again."""

TUNNEL_DIAL_SECONDS = 15.0
"""For the agent's answer to a host's connection: its own attempts have CONNECT_SECONDS."""

TUNNEL_COUNT_SECONDS = 0.25
"""How often the host's process for TCP says what it has moved: ``dconnect tun status`` is as old."""

TUNNEL_KNOWN_ADDRESSES = 1024
"""Addresses whose text and object are kept: hosts dial the same few; making one costs as much as a system call."""

TUNNEL_ACCEPT_SECONDS, TUNNEL_ACCEPTS_PER_TURN = 10.0, 64
"""From the SYN that is let through to the accepted connection: the host's kernel answers at once. And how many are
accepted from one listener before others have their turn."""

TUNNEL_LISTENERS = 1024
"""Destination ports that are listened on, of both families; the one not used for longest goes."""

TUNNEL_SOCKETS = 32
"""Made at once by the host's helper, to become listeners; with half of them left, more are asked for, within 1 ms."""

TRUNKS, TRUNK_STREAMS, TRUNK_AGAIN_SECONDS = 1024, 16_384, 0.25
"""Of all hosts, former ones among them: a host that sleeps leaves one for each lasting connection; and their streams
together, as many as a worker has clients. And when a stream asks again for the connection that it is to move to."""

TRUNK_BULK_BYTES, TRUNK_STREAM_BYTES = 16 * 1024, 32 * 1024
"""After so many one way a stream gets a connection of its own, which costs as much as ten of them on the trunk do; and
what it carries until it has it, a quarter of what a kernel holds for one socket. That much memory is its most."""

TRUNK_WAITING_BYTES, TRUNK_UNSENT_BYTES = 1024 * 1024, 4 * 1024 * 1024
"""That wait for a trunk's other end: then streams read no more; and then only answers to one that asks and asks can
make it more, which ends the trunk."""

TRUNK_DATA_BYTES, TRUNK_READ_BYTES, TRUNK_READS_PER_TURN = 16 * 1024, 64 * 1024, 8
"""A data frame's most, what is read at once, and how often before others have their turn: about 1 ms."""

TUNNEL_UDP_FLOWS, TUNNEL_ECHO_FLOWS = 2048, 256
"""UDP and ping flows, each with a socket; the one idle for longest goes."""

TUNNEL_ECHO_SECONDS = 20.0
"""A ping flow without a packet is forgotten: ping waits 10 s for an answer by itself."""

TUNNEL_HELD_PACKETS, TUNNEL_HELD_BYTES = 16, 1024 * 1024
"""Packets that wait for their flow's socket, of one flow, and their bytes of all flows."""

TUNNEL_ERRORS_PER_SECOND = 1000
"""ICMP errors sent (RFC 4443 §2.4 (f)): a port scan is told the truth, a flood is not answered in full."""

HANDOVER_MESSAGE_BYTES = 64 * 1024
"""What is told of each: a few addresses, and of a link what came with its request, which is 20 KiB at most."""

NAME_CANDIDATES = 8
"""Names suggested for one that is unknown: a sentence, not a list."""

LINK_JSON_BYTES = 4 * 64 * 1024
"""A hello or config frame: the subnets of 4,000 networks, of both families, at 60 bytes a network."""

LINK_REASON_BYTES = 512
"""A bye frame: one sentence for a person."""

LINK_FEATURES, LINK_FEATURE_CHARS, LINK_HOST_CHARS, LINK_ADDRESSES = 32, 32, 64, 8
"""What a hello or config may hold: features are words; what tells one host from another, of which 16 characters are
sent (64 random bits); and addresses of the host's device, one of each family as we give them."""

PACKET_BYTES = 65_535
"""An IPv4 packet's most (RFC 791 §3.1), the largest MTU that Linux, macOS and wintun take, and so a device's."""

LEAST_MTU = 1280
"""IPv6 is not spoken over less (RFC 8200 §5)."""

IPV6_EXTENSION_HEADERS = 8
"""Walked through in one packet: RFC 8200 §4.1 has six in its order, with Destination Options twice."""

REASSEMBLY_DATAGRAMS = 64
"""Datagrams whose fragments are under way; the oldest makes room. At a device's MTU nothing is fragmented by itself."""

REASSEMBLY_BYTES = 4 * 1024 * 1024
"""Of all their fragments: REASSEMBLY_DATAGRAMS whole ones."""

REASSEMBLY_SECONDS = 60.0
"""RFC 8200 §4.5 has 60 s from the first fragment, RFC 1122 §3.3.2 between 60 and 120 s for IPv4."""

TUNNEL_SUBNETS = 512
"""Routed into the host's device at once: engines have 31 networks unless their address pools are changed."""

LINK_SLOTS = 128
"""Packets that wait on the host for the link: 8 MiB, more than the window of a TCP connection (tcp_rmem: 6 MiB)."""

EXPRESS_BYTES, EXPRESS_RUN = 512, 32
"""Packets up to this size go before larger ones: pings, SYNs, queries, ACKs; but after so many one large one goes."""

BULK_FLOWS = 4096
"""Flows that are known to have large packets: as many as the kernel's TUN device remembers (MAX_TAP_FLOWS)."""

BULK_SECONDS = 1.0
"""After its last large packet a flow counts as one that has them: its queue has long been read by then, and the kernel
forgets a flow after 3 s."""

LINK_BATCH_BYTES = 128 * 1024
"""Given to the kernel in one call: two of the largest packets. What comes later waits for it, 0.1 ms at 8 Gbit/s."""

LINK_UNSENT_BYTES = 128 * 1024
"""Bytes of the link that the kernel holds and has not sent (TCP_NOTSENT_LOWAT): what waits there waits in line."""

LINK_SEND_BYTES, LINK_RECEIVE_BYTES = 512 * 1024, 512 * 1024
"""The link's kernel buffers: twice what is under way at 8 Gbit/s and 0.2 ms."""

LINK_TURN_BYTES = 128 * 1024
"""Received before the device has its turn: 0.1 ms."""

LINK_BUFFER_BYTES = 1024 * 1024
"""Where frames are received: the longest one (LINK_JSON_BYTES) and a turn's bytes behind it."""

DEVICE_TURN_PACKETS, DEVICE_TURN_BYTES = 16, 256 * 1024
"""Read from the device before the link has its turn. With sixteen of the largest packets, which take 1 ms, a ping
beside four downloads waited 7 ms instead of 5 (p99), and eight streams together were 7 % faster."""

LINK_BEAT_SECONDS, LINK_MISSES = 5.0, 3
"""A ping so often; without a word for so many of them the link is dead."""

LINK_UNTAKEN_SECONDS = 2.0
"""For the other end's kernel to take what was sent. TCP itself goes on for a quarter of an hour, in ever longer steps:
a link that was cut for seven seconds would be silent for six more."""

LINK_WOKEN_SECONDS = 1.0
"""For an answer after the machine slept: links that died meanwhile should not cost 15 s more."""

LINK_CONNECT_SECONDS = 2.0
"""For each step of opening the link; the agent is on this machine, or at the other end of a quick line."""

LINK_ANSWER_BYTES = 16 * 1024
"""Head and sentence with which the agent answers the upgrade."""

LINK_RETRY_SECONDS = 0.5
"""The longest pause between two attempts at a lost link, so that it is back soon after that is possible."""

GATE_SOURCES = 4096
"""Addresses remembered as reached through the tunnel, so that a packet costs one look-up; then they are forgotten."""

DOWN_ANSWERS = 64
"""Packets answered as unreachable in one turn while the link is down."""

CHANNEL_LINE_BYTES = 2 * LINK_JSON_BYTES
"""Between the tunnel's two halves on the host: a config, quoted."""

RECHECK_SECONDS = 10.0
"""How often the host's routes are looked at again: VPNs and networks come and go, and say nothing."""

LINK_FIND_SECONDS = 5.0
"""While no link can be opened, how often the engine is asked where the agent is now: it moves only when told to."""
