package agent

import (
	"net/netip"
	"slices"
	"testing"

	"onlink/agent/drain"
	"onlink/agent/node"
)

// TestContributed: an aggregate is announced while the node has a smaller prefix
// inside it.
func TestContributed(t *testing.T) {
	t.Parallel()
	pfx := func(list ...string) []netip.Prefix {
		var out []netip.Prefix
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, c := range []struct {
		name            string
		aggregates, own []netip.Prefix
		want            []netip.Prefix
	}{
		{"nothing of ours", pfx("10.244.0.0/16"), nil, nil},
		{"a block inside", pfx("10.244.0.0/16"), pfx("10.244.7.64/26"), pfx("10.244.0.0/16")},
		{"a block of another aggregate", pfx("10.244.0.0/20", "10.244.16.0/20"), pfx("10.244.16.64/26"), pfx("10.244.16.0/20")},
		{"one as large", pfx("10.244.7.64/26"), pfx("10.244.7.64/26"), nil},
		{"a larger one", pfx("10.244.7.64/26"), pfx("10.244.0.0/16"), nil},
		{"of the other family", pfx("::/0"), pfx("10.244.7.64/26"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := contributed(c.aggregates, c.own); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestConfigure: a file's prefixes take part in the next round, and a second file
// before it neither waits nor is lost.
func TestConfigure(t *testing.T) {
	t.Parallel()
	o := &originate{edited: make(chan struct{}, 1)}
	first, second := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	o.configure([]netip.Prefix{first}, nil)
	o.configure([]netip.Prefix{second}, []netip.Prefix{first})
	if len(o.edited) != 1 {
		t.Error("the flow is not woken")
	}
	if extra, sums := o.configured(); !slices.Equal(extra, []netip.Prefix{second}) || !slices.Equal(sums, []netip.Prefix{first}) {
		t.Errorf("announced %v and %v", extra, sums)
	}
}

// TestOriginsOnce: a file that names this node's own block, or an aggregate as a prefix
// of its own, changes nothing: the speaker rejects a whole set with one prefix twice, and
// neither a reload nor a start could announce anything.
func TestOriginsOnce(t *testing.T) {
	t.Parallel()
	o := &originate{node: node.Identity{Address: netip.MustParseAddr("10.57.0.11")}}
	block, sum := netip.MustParsePrefix("10.244.1.0/26"), netip.MustParsePrefix("10.244.0.0/16")
	got := o.origins(drain.Serving, []netip.Prefix{block, sum, block}, []netip.Prefix{sum})
	if len(got) != 2 || got[0].Prefix != block || got[1].Prefix != sum || got[1].Aggregate {
		t.Errorf("announced %v, want %s and %s, neither as an aggregate", got, block, sum)
	}
}
