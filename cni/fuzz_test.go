package cni

import (
	"encoding/json"
	"testing"

	onlinkv1 "onlink/proto/v1"
)

// FuzzRequest reads requests of any content: what is refused has a code and
// becomes an error object, what is accepted can be wired.
func FuzzRequest(f *testing.F) {
	conf := []byte(`{"cniVersion":"1.1.0","name":"x","runtimeConfig":{"ips":["10.0.0.1/8"],"mac":"02:00:00:00:00:01"},"prevResult":{"ips":[{"address":"10.0.0.1/8"}]}}`)
	f.Add(uint8(0), "id", "eth0", "/run/netns/x", "K8S_POD_NAME=a;IP=10.0.0.1", conf)
	f.Add(uint8(1), "", "", "", "IgnoreUnknown=1;A=B", []byte(`{"cniVersion":"0.3.1","name":"x","prevResult":{"ips":[{"version":"4","address":"10.0.0.1/8"}]}}`))
	f.Add(uint8(2), "id", "a b", "x", "=;=", []byte(`{"cniVersion":1}`))
	f.Add(uint8(3), "", "", "", "", []byte(`{"cniVersion":"1.1.0","name":"x","cni.dev/valid-attachments":[{}]}`))
	verbs := []verb{verbAdd, verbDel, verbCheck, verbGC, verbStatus}
	f.Fuzz(func(t *testing.T, v uint8, id, ifname, netns, args string, conf []byte) {
		in := &onlinkv1.CNIRequest{ContainerId: id, Ifname: ifname, Netns: netns, Args: args, Config: conf}
		r, err := parseRequest(verbs[int(v)%len(verbs)], in)
		if err != nil {
			var o errorObject
			text := newErrorObject(r.version(), err).encode()
			if json.Unmarshal(text, &o) != nil || o.Code == 0 || o.Code == 999 || o.Msg == "" {
				t.Fatalf("refused with %s", text)
			}
			return
		}
		w := &wiring{attachment: r.Attachment, hostDevice: HostDevice(r.ContainerID, r.IfName), mac: podMAC(r.ContainerID, r.IfName), addresses: r.ask.Addresses}
		w.chooseIndexes(0)
		w.createBatch(3).stamp(1)
		w.podBatch().stamp(1)
		w.hostBatch().stamp(1)
		if r.verb.container {
			if a := r.alias(); len(a) > aliasMax {
				t.Fatalf("alias of %d bytes", len(a))
			}
			if back, ok := parseAlias(r.alias(), w.hostDevice); !ok || back.key() != r.key() {
				t.Fatalf("alias %q does not lead back to %q", r.alias(), r.key())
			}
		}
		if _, err := r.previous(); err != nil {
			return
		}
		if _, err := r.result(w); err != nil {
			t.Fatalf("no result: %v", err)
		}
	})
}
