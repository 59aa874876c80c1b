package kube

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/integration/kube/cluster"
	"onlink/integration/lab"
	"onlink/integration/labtest"
	"onlink/internal/pki"
	"onlink/internal/tlsfiles"
	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
	"onlink/kube/controller"
	onlinkv1 "onlink/proto/v1"
)

// certifiedTime bounds the time from Ready to a certificate of every node.
var certifiedTime = cluster.Slow(time.Minute)

// explanation is what onlinkctl explain -o json shows, as far as it is read.
type explanation struct {
	Cause, Node, Verdict string
	Reachable            bool
	Steps                []struct{ Name, State, Detail string }
}

// explain asks the agent of a node.
func explain(ctx context.Context, n *cluster.Node, address string) (*explanation, error) {
	text, err := n.Exec(ctx, filepath.Join(labtest.Bin(), "onlinkctl"), "explain", address, "-o", "json")
	e := &explanation{}
	if json.Unmarshal([]byte(text), e) != nil { // one that is broken exits with 1, and shows why
		return nil, err
	}
	return e, nil
}

// checkCertificates wants that every node got a certificate by itself, and that the
// cause of a broken path is found on the node that has it.
func checkCertificates(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	hello := &cluster.Hello{Name: "explained", Replicas: len(c.Nodes)}
	labtest.Must(t, c.Deploy(ctx, hello, podTime))
	here := c.Node(hello.Pods[0].Spec.NodeName)
	far := hello.Pods[len(hello.Pods)-1]
	if here.Name == far.Spec.NodeName {
		t.Fatalf("all pods run on %s", here.Name)
	}
	pod, err := c.PodNS(far)
	labtest.Must(t, err)
	labtest.Must(t, pod.Do(func() error {
		if text, err := exec.CommandContext(ctx, "ip", "route", "del", "default").CombinedOutput(); err != nil {
			return fmt.Errorf("remove the pod's default route: %w: %s", err, text)
		}
		return nil
	}))
	labtest.Must(t, lab.Eventually(ctx, certifiedTime, "the far agent names the cause", func() error {
		e, err := explain(ctx, here, far.Status.PodIP)
		if err != nil {
			return err
		}
		if e.Cause != "pod.wiring" || e.Node != far.Spec.NodeName {
			return fmt.Errorf("cause %q at %q, want pod.wiring at %s: %s\n%v", e.Cause, e.Node, far.Spec.NodeName, e.Verdict, e.Steps)
		}
		return nil
	}))
	set, err := c.Clientset()
	labtest.Must(t, err)
	requests, err := set.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
	labtest.Must(t, err)
	issued := map[string]int{}
	for _, r := range requests.Items {
		if r.Spec.SignerName == certificate.Signer && len(r.Status.Certificate) > 0 {
			issued[strings.Join(r.Spec.Extra[nodeName], ",")]++
		}
	}
	for _, n := range c.Nodes {
		if issued[n.Name] != 1 {
			t.Errorf("%s got %d certificates, want 1: a pod asks once", n.Name, issued[n.Name])
		}
	}
	labtest.Must(t, c.Undeploy(ctx, hello, podTime))
}

// adminPort is the default of the OnlinkConfig.
const adminPort = 9181

// TestCertificates: with the rights of the manifest agents get certificates, and new ones
// before those end, without a restart; who asks for more than the own name is refused
// with the reason; and an authority that is gone or broken is an alarm and not replaced.
func TestCertificates(t *testing.T) {
	t.Parallel()
	ctx, b := t.Context(), newBed(t, 2)
	applyManifest(ctx, t, b.Server)
	b.configure(t)
	_, err := b.Client.Configs.Patch(ctx, v1alpha1.ConfigName, types.MergePatchType, fmt.Appendf(nil, `{"spec":{"adminPort":%d}}`, adminPort), metav1.PatchOptions{})
	must(t, err)
	for _, n := range b.nodes {
		n.as = asNode(t, b.Server, n.Name)
	}
	master, err := client.New(b.User(t, masterAccount))
	must(t, err)
	runIssuer(t, master, 30*time.Second)
	b.up(t)

	one, two := b.nodes[0], b.nodes[1]
	first, started := map[string]string{}, map[string]time.Time{}
	for _, pair := range [][2]*bedNode{{one, two}, {two, one}} {
		eventually(t, pair[0].Name+" and "+pair[1].Name+" accept each other", func() (err error) {
			first[pair[1].Name], err = pair[0].meets(ctx, pair[1])
			return err
		})
		started[pair[1].Name] = pair[1].started(t)
	}
	eventually(t, "a renewed certificate", func() error {
		if serial, err := one.meets(ctx, two); err != nil || serial == first[two.Name] {
			return fmt.Errorf("%s shows the certificate %s: %w", two.Name, serial, err)
		}
		return nil
	})
	if at := two.started(t); !at.Equal(started[two.Name]) {
		t.Errorf("the agent was restarted at %s for a certificate", at)
	}

	t.Run("forged", func(t *testing.T) {
		for _, c := range []struct {
			name, node, want string
			as               *client.Client
		}{
			{"another's name", two.Name, "node " + one.Name + " gets onlink://node/" + one.Name + " alone", one.as},
			{"of a person", one.Name, "only " + nodeAccount + " gets such certificates", b.Client},
			{"of a node that is gone", "gone", "there is no Node gone", asNode(t, b.Server, "gone")},
		} {
			denial(ctx, t, b.Client, request(ctx, t, c.as, c.node, one.Addr), c.name, c.want)
		}
		denial(ctx, t, b.Client, request(ctx, t, one.as, one.Name, two.Addr), "another's address", two.Addr.String()+" is no InternalIP of node "+one.Name)
	})
	t.Run("authority", func(t *testing.T) { checkAuthority(ctx, t, b) })
}

// checkAuthority takes the authority away, breaks it, and restores it.
func checkAuthority(ctx context.Context, t *testing.T, b *bed) {
	t.Helper()
	secrets := b.Client.CoreV1().Secrets(certificate.Namespace(namespace))
	secret, err := secrets.Get(ctx, certificate.Name, metav1.GetOptions{})
	must(t, err)
	restored := secret.DeepCopy()
	restored.ResourceVersion, restored.UID = "", ""
	one := b.nodes[0]

	must(t, secrets.Delete(ctx, certificate.Name, metav1.DeleteOptions{}))
	asked := request(ctx, t, one.as, one.Name, one.Addr) // begins a turn
	must(t, lab.Eventually(ctx, patience, "an alarm of the absent authority", func() error { return alarmed(ctx, b.Client, "AuthorityAbsent") }))
	if s, err := secrets.Get(ctx, certificate.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the authority was replaced by %v, %v", s, err)
	}
	broken := restored.DeepCopy()
	broken.Data = map[string][]byte{"ca.crt": []byte("x")}
	_, err = secrets.Create(ctx, broken, metav1.CreateOptions{})
	must(t, err)
	request(ctx, t, one.as, one.Name, one.Addr)
	must(t, lab.Eventually(ctx, patience, "an alarm of the broken authority", func() error { return alarmed(ctx, b.Client, "AuthorityBroken") }))
	have, err := secrets.Get(ctx, certificate.Name, metav1.GetOptions{})
	must(t, err)
	if !reflect.DeepEqual(have.Data, broken.Data) {
		t.Errorf("the broken authority was replaced by %v", have.Data)
	}
	have.Data = restored.Data
	_, err = secrets.Update(ctx, have, metav1.UpdateOptions{})
	must(t, err)
	request(ctx, t, one.as, one.Name, one.Addr)
	must(t, lab.Eventually(ctx, patience, "what was asked meanwhile is answered", func() error {
		r, err := b.Client.CertificatesV1().Requests().Get(ctx, asked, metav1.GetOptions{})
		if err == nil && len(r.Status.Certificate) == 0 {
			err = fmt.Errorf("conditions %v", r.Status.Conditions)
		}
		return err
	}))
}

// runIssuer runs the controller until the test ends.
func runIssuer(t *testing.T, c *client.Client, life time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- controller.Run(ctx, controller.Options{
			Client: c, Namespace: namespace, Identity: "one", Log: slog.New(slog.NewTextHandler(t.Output(), nil)), CertificateLife: life,
		})
	}()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
}

// meets connects from a node to the API of another with the files of the first one, and
// returns the number of the other's certificate.
func (n *bedNode) meets(ctx context.Context, other *bedNode) (serial string, err error) {
	pair, trust := filepath.Join(n.dir, "kube", "node.pem"), filepath.Join(n.dir, "kube", "ca.crt")
	keeper, err := tlsfiles.Files{Cert: pair, Key: pair, CA: trust}.Open()
	if err != nil {
		return "", err
	}
	c := keeper.Client()
	c.VerifyConnection = func(s tls.ConnectionState) error {
		serial = s.PeerCertificates[0].SerialNumber.String()
		return nil
	}
	c.ServerName, c.NextProtos = other.Addr.String(), []string{"h2"}
	err = n.NS.Do(func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		conn, err := tlsfiles.Dial(ctx, netip.AddrPortFrom(other.Addr, adminPort).String(), c)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return serial, err
}

// started is when the agent began.
func (n *bedNode) started(t *testing.T) time.Time {
	t.Helper()
	s, err := n.admin.GetStatus(t.Context(), &onlinkv1.GetStatusRequest{})
	must(t, err)
	return s.GetStarted().AsTime()
}

// request asks for a certificate of a node at an address, and returns the name of the
// request.
func request(ctx context.Context, t *testing.T, as *client.Client, node string, at netip.Addr) string {
	t.Helper()
	key, err := pki.NewKey(pki.P256)
	must(t, err)
	r, err := certificate.NewRequest(key, node, []netip.Addr{at})
	must(t, err)
	_, err = as.CertificatesV1().Requests().Create(ctx, r, metav1.CreateOptions{})
	must(t, err)
	return r.Name
}

// denial wants that a request is denied for a reason.
func denial(ctx context.Context, t *testing.T, c *client.Client, name, what, want string) {
	t.Helper()
	must(t, lab.Eventually(ctx, patience, what+" is denied", func() error {
		r, err := c.CertificatesV1().Requests().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, o := range r.Status.Conditions {
			if o.Type == certificatesv1.CertificateDenied && strings.Contains(o.Message, want) && len(r.Status.Certificate) == 0 {
				return nil
			}
		}
		return fmt.Errorf("conditions %v, want %q", r.Status.Conditions, want)
	}))
}

// alarmed returns an error without an Event of a reason about the OnlinkConfig.
func alarmed(ctx context.Context, c *client.Client, reason string) error {
	list, err := c.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=OnlinkConfig,reason=" + reason})
	if err == nil && len(list.Items) == 0 {
		err = errors.New("no Event " + reason)
	}
	return err
}
