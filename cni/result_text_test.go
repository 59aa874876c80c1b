package cni

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"onlink/cni/pod"
)

// TestOwnResult compares the result that onlink writes itself with the CNI
// library's result of the same wiring.
func TestOwnResult(t *testing.T) {
	families := map[string][]netip.Addr{
		"ipv4": {netip.MustParseAddr("10.65.0.1")},
		"ipv6": {netip.MustParseAddr("fd00:65::1")},
		"dual": {netip.MustParseAddr("10.65.0.1"), netip.MustParseAddr("10.65.0.2"), netip.MustParseAddr("fd00:65::1")},
	}
	for _, version := range versions {
		for family, addresses := range families {
			for _, netns := range []string{"/run/netns/pod", `/run/netns/"\<&> ` + "\n\xff\u00e4\u2028"} {
				r := &request{conf: netConf{CNIVersion: version}, Attachment: Attachment{IfName: "eth0", Netns: netns}}
				w := pod.NewWiring(Attachment{ContainerID: testID, IfName: "eth0"}, addresses)
				w.MTU = 1480
				want, err := r.chainResult(w)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(decode(t, want), decode(t, r.ownResult(w))); diff != "" {
					t.Errorf("%s, %s, %q (-library +ours):\n%s", version, family, netns, diff)
				}
			}
		}
	}
}

// decode reads JSON; an empty "dns" means the same as none.
func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if dns, ok := out["dns"].(map[string]any); ok && len(dns) == 0 {
		delete(out, "dns")
	}
	return out
}
