package ipam

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// FuzzRecords gives arbitrary keys and payloads to every decoder: none may
// panic, and what one accepts must encode to the same bytes.
func FuzzRecords(f *testing.F) {
	as := Assignment{
		Handle: handle(1), Addresses: []netip.Addr{adr("10.244.0.1"), adr("fd00::1")}, Pools: []string{"four", "six"},
		Netns: "/run/netns/x", Pod: "p", Namespace: "n", UID: "u", HostDevice: "onl0", Assigned: time.Unix(1, 2),
	}
	f.Add(handleKey(as.Handle), encodeAssignment(&as))
	f.Add(prefixKey(pfx("10.244.0.0/26")), encodeHeld(heldBlock{Block: Block{Pool: "p", Node: "n", Epoch: 7}, lost: true}))
	f.Add(addrKey(adr("fd00::1")), appendTime(nil, time.Unix(3, 4)))
	f.Add([]byte("ns/w"), encodeSticky(sticky{addrs: as.Addresses, freed: time.Unix(5, 6)}))
	f.Add(auditKey(7), encodeAudit(AuditEntry{Action: "release-node", Target: "n2", By: "root", Done: true, Blocks: []netip.Prefix{pfx("10.0.0.0/26")}}))
	f.Fuzz(func(t *testing.T, key, payload []byte) {
		if e, err := decodeAudit(key, payload); err == nil {
			again, err := decodeAudit(key, encodeAudit(e))
			if err != nil || !slices.Equal(again.Blocks, e.Blocks) || again.Done != e.Done {
				t.Errorf("audit %x %x is %+v again (%v)", key, payload, again, err)
			}
		}
		if w, err := decodeSticky(key, payload); err == nil && !bytes.Equal(encodeSticky(w), payload) {
			t.Errorf("sticky %x %x is %x again", key, payload, encodeSticky(w))
		}
		if a, err := new(decoder).assignment(key, payload); err == nil {
			if got := encodeAssignment(&a); !bytes.Equal(handleKey(a.Handle), key) || len(got) > len(payload) {
				t.Errorf("assignment %x %x is %x again", key, payload, got)
			}
		}
		if b, err := decodeHeld(key, payload); err == nil {
			if got := encodeHeld(b); !bytes.Equal(prefixKey(b.CIDR), key) || len(got) > len(payload) {
				t.Errorf("block %x %x is %x again", key, payload, got)
			}
		}
		if a, err := parseAddrKey(key); err == nil && !bytes.Equal(addrKey(a), key) {
			t.Errorf("address key %x is %x again", key, addrKey(a))
		}
		bucket := []byte("b")
		if got, err := unseal(bucket, key, seal(bucket, key, payload)); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("sealed %x is %x again (%v)", payload, got, err)
		}
		if len(key) < 1<<16 {
			if _, err := unseal(bucket, append(bytes.Clone(key), 0), seal(bucket, key, payload)); err == nil {
				t.Errorf("value of key %x is accepted under another", key)
			}
		}
		_, _ = unseal(bucket, key, payload) // must not panic
	})
}

// FuzzRequest gives arbitrary requests to a node, as a runtime's words would
// make them: none may panic, who is refused has nothing, who is answered has
// what the answer says, and file and memory are sound.
func FuzzRequest(f *testing.F) {
	f.Add("c1", "eth0", "/run/netns/a", "default", "web-0", "web", "four", "10.1.0.3", "", true, false)
	f.Add("c2", "eth0", "", "", "", "", "", "fd00::5", "10.1.0.9", false, false)
	f.Add("c\x00", "", "x", "y", "z", "a/b", "six", "::ffff:10.1.0.3", "fe80::1%eth0", true, true)
	n := startNode(f, Config{Pools: modelPools, Cooldown: -1})
	f.Fuzz(func(t *testing.T, id, ifName, netns, namespace, pod, work, pool, addr, addr2 string, v4, v6 bool) {
		req := Request{
			Handle: Handle{ContainerID: id, IfName: ifName}, Netns: netns, Namespace: namespace, Pod: pod, Sticky: work, IPv4: v4, IPv6: v6,
		}
		if pool != "" {
			req.Pools = []string{pool}
		}
		for _, text := range []string{addr, addr2} {
			if a, err := netip.ParseAddr(text); err == nil {
				req.Addresses = append(req.Addresses, a)
			}
		}
		as, err := n.Assign(t.Context(), req)
		got, ok := n.Lookup(req.Handle)
		if ok != (err == nil) || !slices.Equal(got.Addresses, as.Addresses) {
			t.Errorf("%+v is answered with %v %v and has %v", req, as.Addresses, err, got.Addresses)
		}
		for _, a := range req.Addresses {
			if err == nil && !slices.Contains(as.Addresses, a) {
				t.Errorf("%+v got %v", req, as.Addresses)
			}
		}
		if bad, err := n.Check(t.Context()); err != nil || len(bad) > 0 {
			t.Errorf("after %+v: %q %v", req, bad, err)
		}
		if _, _, err := n.Release(t.Context(), req.Handle); err != nil {
			t.Errorf("release %+v: %v", req.Handle, err)
		}
	})
}

// FuzzPages gives arbitrary bytes, and a sound file with some bytes changed, to
// the page check and then to bbolt: what the check accepts bbolt must survive.
func FuzzPages(f *testing.F) {
	good := sampleFile(f, 40)
	f.Add([]byte{}, uint32(0), byte(0))
	f.Add(good[:4096], uint32(8200), byte(1))
	f.Add([]byte("text"), uint32(3*4096+10), byte(0xff))
	f.Add([]byte("text"), uint32(4*4096+8), byte(3))
	f.Fuzz(func(t *testing.T, raw []byte, at uint32, flip byte) {
		_ = checkPagesOf(bytes.NewReader(raw), int64(len(raw)))
		bad := bytes.Clone(good)
		bad[int(at)%len(bad)] ^= flip
		path := filepath.Join(t.TempDir(), "onlink.db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStore(path, StoreOptions{})
		if err != nil {
			return
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
