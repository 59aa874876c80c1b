package nft

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"onlink/internal/ours"
)

// TestUplinkName: a device of the operator's is no pod, whatever it is called.
func TestUplinkName(t *testing.T) {
	for _, device := range []string{"onlan0", "onlab-uplink-0", "onl0123456789a"} {
		t.Run(device, func(t *testing.T) {
			other, node := newHost(t), newHost(t)
			needAntiSpoof(t, node)
			s := senders(t, node)
			wire(node, other, device, []string{"10.0.0.1/24", "fd00::1/64"}, []string{"10.0.0.2/24", "fd00::2/64", "10.1.0.2/24"})
			node.do(func() error { return New(nil).Apply(State{AntiSpoof: true}) })
			if err := s.Replace(map[string]net.HardwareAddr{"onl0123456789b": {2, 0, 0, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
			other.route("10.9.0.0/24", "10.0.0.1")
			arrives(t, other, "10.0.0.2", node, "udp", "10.0.0.1", 5000)
			arrives(t, other, "fd00::2", node, "udp", "fd00::1", 5000)
			arrives(t, other, "10.1.0.2", node, "udp", "10.0.0.1", 5000) // an uplink brings sources that are not routed back to it
		})
	}
}

// TestForeignTable: a table of our name that somebody else made is neither
// replaced nor removed, and the error names what is in it.
func TestForeignTable(t *testing.T) {
	node := newHost(t)
	needNFTables(t, node)
	s := senders(t, node)
	table := New(nil)
	write := map[string]func() error{
		ours.FilterTable:  func() error { return table.Apply(State{}) },
		ours.SendersTable: func() error { return s.Replace(nil) },
	}
	for name, apply := range write {
		t.Run(name, func(t *testing.T) {
			theirs := &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
			chain := &nftables.Chain{Name: "prerouting", Table: theirs}
			node.do(func() error {
				conn, err := dial()
				if err != nil {
					return err
				}
				conn.AddTable(theirs)
				conn.AddChain(chain)
				conn.AddRule(&nftables.Rule{Table: theirs, Chain: chain, Exprs: []expr.Any{&expr.Counter{}}})
				return conn.Flush()
			})
			if err := node.try(apply); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "inet "+name+" has chain prerouting") {
				t.Errorf("write: %v, want an error that names the table and its chain", err)
			}
			if name == ours.FilterTable {
				if err := node.try(table.Remove); !errors.Is(err, ErrForeign) {
					t.Errorf("remove: %v, want ErrForeign", err)
				}
			}
			node.do(func() error {
				conn, err := dial()
				if err != nil {
					return err
				}
				rules, err := conn.GetRules(theirs, chain)
				if len(rules) != 1 {
					t.Errorf("%d rules are left of their one", len(rules))
				}
				conn.DelTable(theirs)
				conn.AddTable(theirs) // empty: nobody loses anything
				return errors.Join(err, conn.Flush())
			})
			node.do(apply)
			node.do(apply) // ours now
		})
	}
}
