package ipam

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
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
	f.Fuzz(func(t *testing.T, key, payload []byte) {
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
