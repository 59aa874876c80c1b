package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestGroups: a file with groups means the same as the file with the keys written
// out.
func TestGroups(t *testing.T) {
	t.Parallel()
	const with = `
node: {labels: {rack: r1}}
bgp:
  peers:
    - {name: tor1, group: tors, address: 10.57.0.1}
    - name: tor2
      group: tors
      address: 10.57.0.2
      holdTime: 30s
      import: {accept: [172.16.0.0/12]}
      bfd: {multiplier: 5}
    - {name: far, group: other-rack, address: 10.58.0.1}
    - {name: alone, address: 10.57.0.9}
  groups:
    other-rack: {asn: 65002, nodeSelector: {rack: r2}}
    tors: &tors
      asn: 65001
      holdTime: 9s
      passwordFile: /etc/onlink/tor.key
      bfd: {interval: 100ms}
      import: {accept: [10.0.0.0/8], maxPrefixes: 1000}
      export: {communities: ["64512:100"]}
`
	const without = `
node: {labels: {rack: r1}}
bgp:
  peers:
    - name: tor1
      address: 10.57.0.1
      asn: 65001
      holdTime: 9s
      passwordFile: /etc/onlink/tor.key
      bfd: {interval: 100ms}
      import: {accept: [10.0.0.0/8], maxPrefixes: 1000}
      export: {communities: ["64512:100"]}
    - name: tor2
      address: 10.57.0.2
      asn: 65001
      holdTime: 30s
      passwordFile: /etc/onlink/tor.key
      bfd: {interval: 100ms, multiplier: 5}
      import: {accept: [172.16.0.0/12], maxPrefixes: 1000}
      export: {communities: ["64512:100"]}
    - {name: alone, address: 10.57.0.9}
`
	got, err := Parse("with.yaml", []byte(with))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("without.yaml", []byte(without))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.BGP.Peers) != 3 || got.BGP.Peers[0].Group != "tors" || got.BGP.Peers[0].HoldTime != 9*time.Second {
		t.Fatalf("peers %+v", got.BGP.Peers)
	}
	for i := range got.BGP.Peers {
		got.BGP.Peers[i].Group = ""
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("the keys written out mean something else (-want +got):\n%s", diff)
	}
}
