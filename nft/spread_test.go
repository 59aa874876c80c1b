package nft

import (
	"net"
	"strconv"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// TestSpread counts, in a table of somebody else, the marks of what leaves the
// node through its uplink: forwarded and its own, in both families.
func TestSpread(t *testing.T) {
	t.Parallel()
	r := newRack(t)
	r.node.do(func() error { return countMarks(ours.SpreadMark, 7) })
	seen := func() [2]uint64 {
		var n [2]uint64
		r.node.do(func() error {
			c, err := dial()
			if err != nil {
				return err
			}
			table := &nftables.Table{Name: "marks", Family: nftables.TableFamilyINet}
			rules, err := c.GetRules(table, &nftables.Chain{Name: "postrouting"})
			for i, rule := range rules {
				n[i] = packets(rule)
			}
			return err
		})
		return n
	}
	send := func() {
		for _, to := range []string{"192.0.2.9", "2001:db8::9"} {
			arrives(t, r.pod, "", r.server, "udp", to, 5000)
			r.node.do(func() error { return sendMarked(to, 0) })
		}
	}
	send()
	if got := seen(); got != [2]uint64{} {
		t.Errorf("without the chain: %v packets with the marks, want none", got)
	}
	r.apply(State{Spread: []string{"up0"}})
	send()
	before := seen()
	if before[0] < 4 || before[1] > 0 {
		t.Errorf("with the chain: %v packets with the marks, want at least 4 and 0", before)
	}
	r.node.do(func() error { return sendMarked("192.0.2.9", 7) })
	if got := seen(); got[0] != before[0] || got[1] != 1 {
		t.Errorf("a packet with a mark: %v, want %d and 1", got, before[0])
	}
	r.apply(State{Spread: []string{"up"}}) // no such device, but the beginning of one's name
	send()
	if got := seen(); got[0] != before[0] {
		t.Errorf("another device: %d packets with the mark, want %d", got[0], before[0])
	}
}

// countMarks makes a table that counts the packets with each mark, behind ours.
func countMarks(marks ...uint32) error {
	c, err := dial()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "marks", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityFilter,
	})
	for _, mark := range marks {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
			&expr.Counter{},
		}})
	}
	return c.Flush()
}

// sendMarked sends a UDP packet with a mark (SO_MARK; 0: none).
func sendMarked(to string, mark int) error {
	conn, err := net.Dial("udp", net.JoinHostPort(to, strconv.Itoa(5000)))
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var optErr error
	err = raw.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark) })
	if err == nil {
		err = optErr
	}
	if err == nil {
		_, err = conn.Write([]byte("hello"))
	}
	return err
}
