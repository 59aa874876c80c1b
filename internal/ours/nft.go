package ours

// Tables of nftables, both in the family inet. A table is ours by the set in it
// and not by its name: one that has content without that set is foreign.
const (
	FilterTable  = "onlink"      // masquerading, the guard, anti-spoofing by address
	SendersTable = "onlink-pods" // anti-spoofing by MAC address

	PoolsSet   = "pools"        // in FilterTable: PoolsSet+"4" and PoolsSet+"6" hold the pools of a family
	FilterMark = PoolsSet + "4" // the set by which FilterTable is known: it is there in every state and version
	SendersSet = "senders"      // host device and MAC address of every pod; SendersTable is known by it
)
