package cni

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"onlink/cni/pod"
	onlinkv1 "onlink/proto/v1"
)

// FuzzRequest reads requests of any content: a refused one has a code and becomes
// an error object, an accepted one can be wired.
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
		w := pod.NewWiring(r.Attachment, r.ask.Addresses)
		if r.verb.name == verbAdd.name || r.verb.name == verbCheck.name {
			if a := r.Alias(); len(a) > pod.MaxAlias {
				t.Fatalf("alias of %d bytes", len(a))
			}
			if !pod.IsHostEnd(0, "veth", w.HostDevice(), r.Alias()) {
				t.Fatalf("alias %q does not lead back to %q", r.Alias(), r.Key())
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

// FuzzServer sends requests of any content to an agent over its socket, into a
// real namespace and others. The agent must live, answer as the specification
// requires, and hold nothing of the pod after one DEL of it.
func FuzzServer(f *testing.F) {
	conf := []byte(`{"cniVersion":"1.1.0","name":"x","mtu":1300,"sysctls":{"net.core.somaxconn":"5"},"runtimeConfig":{"mac":"02:00:00:00:00:01"}}`)
	f.Add(uint8(0), true, "id", "eth0", "", "K8S_POD_NAME=a", conf)
	f.Add(uint8(0), true, "id", "e", "", "IP=10.0.0.1", []byte(`{"cniVersion":"0.3.1","name":"x","prevResult":{"ips":[{"version":"4","address":"10.0.0.1/8"}]}}`))
	f.Add(uint8(0), false, "id", "eth0", "/proc/self/ns/net", "", conf)
	f.Add(uint8(0), false, "id", "eth0", "/dev/tty", "", conf)
	f.Add(uint8(2), true, "id", "eth0", "", "", conf)
	f.Add(uint8(3), false, "", "", "", "", []byte(`{"cniVersion":"1.1.0","name":"x","cni.dev/valid-attachments":[{"containerID":"a"}]}`))
	n, pod := newNode(f), newSpace(f)
	n.sysctls = []string{"net.core.*"}
	n.stop()
	n.start()
	cc, err := grpc.NewClient("unix:"+n.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = cc.Close() })
	client := onlinkv1.NewCNIClient(cc)
	calls := []func(context.Context, *onlinkv1.CNIRequest, ...grpc.CallOption) (*onlinkv1.CNIReply, error){
		client.Add, client.Del, client.Check, client.Gc, client.Status,
	}
	f.Fuzz(func(t *testing.T, verb uint8, live bool, id, ifname, netns, args string, conf []byte) {
		if live {
			netns = pod.path
		}
		in := &onlinkv1.CNIRequest{ContainerId: strings.ToValidUTF8(id, "?"), Ifname: strings.ToValidUTF8(ifname, "?"), Netns: strings.ToValidUTF8(netns, "?"), Args: strings.ToValidUTF8(args, "?"), Config: conf}
		reply, err := calls[int(verb)%len(calls)](t.Context(), in)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if text := reply.GetStdout(); len(text) > 0 && !json.Valid(text) || len(text) == 0 && reply.GetExitCode() != 0 {
			t.Fatalf("exit code %d, printed %q", reply.GetExitCode(), text)
		}
		end := &onlinkv1.CNIRequest{ContainerId: in.GetContainerId(), Ifname: in.GetIfname(), Config: []byte(`{"cniVersion":"1.0.0","name":"x"}`)}
		if _, err := client.Del(t.Context(), end); err != nil {
			t.Fatalf("the agent is gone: %v", err)
		}
		if err := n.server.pods.reaper.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := n.ipam.Attachments(); len(left) > 0 || n.routes.len() > 0 {
			t.Fatalf("leases %v and routes %v are left", left, n.routes.pods)
		}
		for _, s := range []*space{n.space, pod} {
			s.do(t, func() error {
				links, err := netlink.LinkList()
				for _, l := range links {
					if l.Type() == "veth" {
						t.Errorf("%s is left", l.Attrs().Name)
					}
				}
				return err
			})
		}
	})
}
