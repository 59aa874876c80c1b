package bgp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"onlink/bgp/policy"
)

// announcer is a hand-made peer that announces random paths.
type announcer struct {
	*rawPeer
	at uint8 // the last octet of its address
	as uint16
}

// attributes returns random attributes of a path. med is the MED of all paths to the
// prefix, or -1 for one of its own; calm is how many of the first steps find no
// difference, so that later ones decide too.
func (a *announcer) attributes(d dice, med, calm int) []byte {
	roll := func(step, n int) int {
		if calm > step {
			return 0
		}
		return d.IntN(n)
	}
	list := [][]byte{whole(0x40, 1, byte(roll(3, 3)))}
	var path []byte
	seq := func(ases ...uint16) {
		path = append(path, 2, byte(len(ases)))
		for _, as := range ases {
			path = append(path, byte(as>>8), byte(as))
		}
	}
	if a.as != 64512 {
		seq(a.as)
	} else {
		list = append(list, whole(0x40, 5, 0, 0, 0, byte(100+roll(1, 4)/3)))
	}
	for range roll(2, 3) {
		seq(uint16(65100 + d.IntN(2)))
	}
	if roll(2, 5) == 4 {
		path = append(path, 1, 2, 0xfe, 0x60, 0xfe, 0x61) // AS_SET {65120,65121}
	}
	list = append(list, whole(0x40, 2, path...), whole(0x40, 3, 127, 103, 0, a.at))
	if med < 0 {
		med = roll(4, 3)
	}
	if med > 0 {
		list = append(list, whole(0x80, 4, binary.BigEndian.AppendUint32(nil, uint32(med))...))
	}
	if roll(0, 8) == 7 {
		list = append(list, whole(0xc0, 8, 0xff, 0xff, 0, 6)) // LLGR_STALE
	}
	slices.SortFunc(list, func(x, y []byte) int { return int(x[1]) - int(y[1]) })
	return joined(list...)
}

// TestDecisionIsTheEngines sends random paths of peers of our AS and of two others, two
// of them with one router ID, and compares the engine's order of them, and its multipath
// set, with the evaluator's.
func TestDecisionIsTheEngines(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, withoutPools(testConfig(t, "127.103.0.1")))[0]
	peers := []*announcer{{at: 2, as: 65001}, {at: 3, as: 65001}, {at: 4, as: 65002}, {at: 5, as: 64512}, {at: 6, as: 64512}}
	var want []Peer
	for _, a := range peers {
		p := to(fmt.Sprintf("127.103.0.%d", a.at), EBGP)
		p.ASN, p.Passive, p.Import = uint32(a.as), true, accepting("10.9.0.0/16 ge 24 le 24")
		p.Import.DisableConnectedCheck = true
		if a.as == 64512 {
			p.Role, p.Import.DisableConnectedCheck = IBGP, false
		}
		want = append(want, p)
	}
	x.setPeers(want)
	for _, a := range peers {
		id := fmt.Sprintf("127.103.0.%d", a.at&^1) // 2 and 3, 4 and 5 share one
		p, got := openRaw(t, fmt.Sprintf("127.103.0.%d", a.at), "127.103.0.1", id, a.as)
		if got != "used" {
			t.Fatalf("peer %d: %s", a.at, got)
		}
		go drainConn(p.conn)
		a.rawPeer = p
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	const prefixes = 250
	announced := make([]int, prefixes)
	for i := range prefixes {
		order := slices.Clone(peers)
		d.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		med := -1 // of two paths it may differ; of more the order of all MEDs is not transitive
		switch n := 3 + d.IntN(len(peers)-2); d.IntN(4) {
		case 0:
			order = order[:2]
		case 1: // of one AS, which alone compares MEDs
			at := d.IntN(2) * 3
			order = []*announcer{peers[at], peers[at+1]}
		default:
			order, med = order[:n], d.IntN(3)
		}
		announced[i] = len(order)
		calm := d.IntN(7)
		for _, a := range order {
			a.update(a.attributes(d, med, calm), []byte{24, 10, 9, byte(i)})
		}
	}
	steps := map[policy.Decision]int{}
	several := 0
	for i := range prefixes {
		p := prefix(fmt.Sprintf("10.9.%d.0/24", i))
		eventually(t, func() string { return disagrees(t, x, p, announced[i], steps, &several) })
	}
	t.Logf("deciding steps: %v; sets of several paths: %d", steps, several)
	for d := policy.ByStale; d <= policy.ByPeer; d++ {
		if d != policy.ByOwn && steps[d] == 0 { // beside an own path import accepts no other
			t.Errorf("step %d decided between no two paths: the test shows nothing of it", d)
		}
	}
	if several == 0 {
		t.Error("no multipath set had several paths")
	}
}

// disagrees compares the engine's order and set with the evaluator's; "" when they agree.
func disagrees(t *testing.T, x *node, p netip.Prefix, announced int, steps map[policy.Decision]int, several *int) string {
	list, err := NewOperator(x.Speaker).Candidates(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != announced || slices.ContainsFunc(list, func(c Candidate) bool { return c.State == PathRejected }) {
		return fmt.Sprintf("%s: %d paths %+v, want %d", p, len(list), list, announced)
	}
	var used []string
	for i := range list {
		if list[i].Best {
			used = append(used, list[i].NextHop.String())
		}
		for j := range list[:i] {
			a, b := list[j].selection(), list[i].selection()
			step, better := policy.Decide(&a, &b)
			if !better {
				t.Fatalf("%s: the engine has %+v before %+v, the evaluator decides otherwise in step %d", p, a, b, step)
			}
			if j == 0 {
				steps[step]++
				if !strings.HasSuffix(list[i].Reason, step.Reason(&a, &b)) {
					t.Fatalf("%s: the reason %q is not that of step %d", p, list[i].Reason, step)
				}
			}
		}
	}
	slices.Sort(used)
	x.mu.Lock()
	var installed []string
	for _, path := range x.table[p] {
		installed = append(installed, path.NextHop.String())
	}
	x.mu.Unlock()
	slices.Sort(installed)
	if !slices.Equal(used, installed) {
		return fmt.Sprintf("%s: best and multipath %q, the engine's set %q: %+v", p, used, installed, list)
	}
	if len(used) > 1 {
		*several++
	}
	return ""
}

// TestCandidates: an accepted path, one that loses, and one that import rejected, each
// with the reason.
func TestCandidates(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, withoutPools(testConfig(t, "127.104.0.1")))[0]
	x.setPeers(nil, anything(clientsOf("127.104.0.0/30")), clientsOf("127.104.0.4/30"))
	for i, pref := range map[byte]byte{2: 100, 3: 90, 5: 100} {
		p := dialRaw(t, fmt.Sprintf("127.104.0.%d", i), "127.104.0.1")
		p.update(joined(attrOrigin, attrASPath, whole(0x40, 3, 127, 104, 0, i), whole(0x40, 5, 0, 0, 0, pref)), []byte{24, 10, 9, 1})
	}
	want := []string{
		"127.104.0.2 best: ",
		"127.104.0.3 not best: its LOCAL_PREF 90 is lower than 100 (RFC 4271 section 9.1.1)",
		"127.104.0.5 rejected: rejected on import: not in the pools or import.accept",
	}
	eventually(t, func() string {
		list, err := NewOperator(x.Speaker).Candidates(t.Context(), prefix("10.9.1.0/24"))
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, c := range list {
			got = append(got, fmt.Sprintf("%s %s: %s", c.Peer, c.State, c.Reason))
		}
		if !slices.Equal(got, want) {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
	list, err := NewOperator(x.Speaker).Prefixes(t.Context(), prefix("10.9.1.7/32"))
	if err != nil || !slices.Equal(list, []netip.Prefix{prefix("10.9.1.0/24")}) {
		t.Errorf("prefixes around an address: %v, %v", list, err)
	}
}

// TestHeldBlock: of two nodes that announce a block without a registered owner the first
// one keeps it, whatever the second prefers, and the reason says so.
func TestHeldBlock(t *testing.T) {
	needsPatches(t)
	x := startNodes(t, testConfig(t, "127.105.0.1"))[0]
	x.setPeers(nil, clientsOf("127.105.0.0/24"))
	for _, i := range []byte{3, 2} {
		at := fmt.Sprintf("127.105.0.%d", i)
		p := dialRaw(t, at, "127.105.0.1")
		p.update(joined(attrOrigin, attrASPath, whole(0x40, 3, 127, 105, 0, i), attrLocalPref), []byte{26, 10, 244, 1, 0})
		eventually(t, func() string {
			if x.peer(addr(at)).Received != 1 {
				return "the announcement of " + at + " is not there"
			}
			return ""
		})
	}
	list, err := NewOperator(x.Speaker).Candidates(t.Context(), prefix("10.244.1.0/26"))
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if list[0].Peer != addr("127.105.0.3") || list[1].State != PathWorse || !strings.Contains(list[1].Reason, "the first announcer keeps it, with next hop 127.105.0.3") {
		t.Errorf("%+v", list)
	}
}
