package node

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
)

// desk is an API server that has CertificateSigningRequests alone, and the controller
// behind it.
type desk struct {
	t      *testing.T
	codec  serializer.CodecFactory
	has    map[string]*certificatesv1.CertificateSigningRequest
	answer func(*certificatesv1.CertificateSigningRequest) // nil: the controller is away
	away   bool
}

// ServeHTTP implements http.Handler. The certifier calls it by one call at a time.
func (d *desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	name := path.Base(r.URL.Path)
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			d.t.Error(err)
		}
		o, _, err := d.codec.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			d.t.Errorf("a request that is none: %v", err)
			return
		}
		q := o.(*certificatesv1.CertificateSigningRequest)
		name, d.has[q.Name] = q.Name, q
	}
	q := d.has[name]
	switch {
	case d.away:
		w.WriteHeader(http.StatusServiceUnavailable)
	case q == nil:
		w.WriteHeader(http.StatusNotFound)
		d.write(w, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound})
	default:
		if d.answer != nil {
			d.answer(q)
		}
		q.TypeMeta = metav1.TypeMeta{APIVersion: "certificates.k8s.io/v1", Kind: "CertificateSigningRequest"}
		d.write(w, q)
	}
}

func (d *desk) write(w http.ResponseWriter, o any) {
	if err := json.NewEncoder(w).Encode(o); err != nil {
		d.t.Error(err)
	}
}

// newCertifier returns the certifier of node n1, its API server, and the controller's
// authority.
func newCertifier(t *testing.T) (*certifier, *desk, *certificate.Ring) {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := certificatesv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, codec: serializer.NewCodecFactory(scheme), has: map[string]*certificatesv1.CertificateSigningRequest{}}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	api, err := client.New(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := certificate.NewRing(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	o := newObjects(api, log, "n1", "onlink", func(deletion) {})
	c := &certifier{log: log, client: api, objects: o, node: "n1", folder: certificate.Folder(t.TempDir()), wake: newBell(), show: newBell()}
	if err := c.folder.Begin("n1", time.Now()); err != nil {
		t.Fatal(err)
	}
	port := int32(9181)
	c.configure(t, &port)
	if err := o.self.Update(machine("192.0.2.11")); err != nil {
		t.Fatal(err)
	}
	return c, d, ring
}

func (c *certifier) configure(t *testing.T, port *int32) {
	t.Helper()
	err := c.objects.configs.Update(&v1alpha1.OnlinkConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ConfigName}, Spec: v1alpha1.OnlinkConfigSpec{AdminPort: port}})
	if err != nil {
		t.Fatal(err)
	}
}

func machine(address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}},
	}
}

// life is the validity of what the controller issues.
const life = time.Hour

// issues has the controller issue what a machine asks for.
func issues(t *testing.T, ring *certificate.Ring, at *corev1.Node, now time.Time) func(*certificatesv1.CertificateSigningRequest) {
	t.Helper()
	return func(q *certificatesv1.CertificateSigningRequest) {
		g, err := certificate.Judge(q, at)
		if err != nil {
			t.Errorf("the request is not granted: %v", err)
			return
		}
		if len(q.Status.Certificate) == 0 {
			if q.Status.Certificate, err = ring.Issue("n1", g, now, life); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestCertifier: a node asks once, waits, and renews half-way; another address of the
// Node is a reason to ask again.
func TestCertifier(t *testing.T) {
	c, d, ring := newCertifier(t)
	now := time.Now()
	for range 3 {
		if wait := c.turn(t.Context(), now); wait <= 0 || wait > time.Minute || len(d.has) != 1 {
			t.Fatalf("waits %s with %d requests", wait, len(d.has))
		}
	}
	if got := c.problems(); got != nil {
		t.Errorf("problems at once: %q", got)
	}
	c.turn(t.Context(), now.Add(unanswered))
	if got := c.problems(); len(got) != 1 || !strings.Contains(got[0], "has no certificate for api.admin.tcp, so that explain asks no other agent: the controller has not answered the CertificateSigningRequest onlink-n1-") {
		t.Errorf("problems after %s: %q", unanswered, got)
	}
	d.answer = issues(t, ring, machine("192.0.2.11"), now)
	c.turn(t.Context(), now)
	wait := c.turn(t.Context(), now)
	if wait < life*40/100 || wait > life*60/100 || c.problems() != nil {
		t.Errorf("renews in %s; problems %q", wait, c.problems())
	}
	first, err := c.folder.Current("n1", now)
	if err != nil || first == nil {
		t.Fatalf("%v, %v", first, err)
	}
	later := now.Add(wait)
	d.answer = issues(t, ring, machine("192.0.2.11"), later)
	c.turn(t.Context(), later)
	second, err := c.folder.Current("n1", later)
	if err != nil || second == nil || !second.NotAfter.After(first.NotAfter) || len(d.has) != 2 {
		t.Errorf("after the renewal: %v, %v, %d requests", second, err, len(d.has))
	}
	if err := c.objects.self.Update(machine("192.0.2.12")); err != nil {
		t.Fatal(err)
	}
	d.answer = issues(t, ring, machine("192.0.2.12"), later)
	c.turn(t.Context(), later)
	if third, err := c.folder.Current("n1", later); err != nil || third == nil || third.IPAddresses[0].String() != "192.0.2.12" {
		t.Errorf("with another address: %v, %v", third, err)
	}
}

// TestCertifierAway: while the API server is away the certificate stays until its end,
// and says so before; after that the agent has files that it can start with.
func TestCertifierAway(t *testing.T) {
	c, d, ring := newCertifier(t)
	now := time.Now()
	d.answer = issues(t, ring, machine("192.0.2.11"), now)
	c.turn(t.Context(), now)
	d.away = true
	late := now.Add(life * 6 / 10)
	c.turn(t.Context(), late)
	c.turn(t.Context(), late.Add(unanswered))
	if have, err := c.folder.Current("n1", late); err != nil || have == nil {
		t.Errorf("before its end %v, %v", have, err)
	}
	if got := c.problems(); len(got) != 1 || !strings.Contains(got[0], "is not renewed: ") {
		t.Errorf("problems %q", got)
	}
	c.turn(t.Context(), now.Add(life))
	if have, err := c.folder.Current("n1", now.Add(life)); err != nil || have != nil {
		t.Errorf("after its end %v, %v", have, err)
	}
}

// TestCertifierDenied: a denial is a problem at once, and the next request is another.
func TestCertifierDenied(t *testing.T) {
	c, d, ring := newCertifier(t)
	now := time.Now()
	d.answer = func(q *certificatesv1.CertificateSigningRequest) {
		q.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateDenied, Status: corev1.ConditionTrue, Message: "no such node"}}
	}
	if wait := c.turn(t.Context(), now); wait < askAgain {
		t.Errorf("asks again in %s", wait)
	}
	if got := c.problems(); len(got) != 1 || !strings.HasSuffix(got[0], ": no such node") {
		t.Errorf("problems %q", got)
	}
	d.answer = issues(t, ring, machine("192.0.2.11"), now)
	if c.turn(t.Context(), now.Add(askAgain/2)); len(d.has) != 1 {
		t.Errorf("%d requests, though the first was denied a moment ago", len(d.has))
	}
	later := now.Add(askAgain)
	c.turn(t.Context(), later)
	if c.turn(t.Context(), later); c.problems() != nil || len(d.has) != 2 {
		t.Errorf("problems %q after %d requests", c.problems(), len(d.has))
	}
}

// TestCertifierOff: without a port nothing is asked, and nothing lacks.
func TestCertifierOff(t *testing.T) {
	c, d, _ := newCertifier(t)
	for _, port := range []*int32{nil, new(int32)} {
		c.configure(t, port)
		if wait := c.turn(t.Context(), time.Now()); wait != 0 || len(d.has) > 0 || c.problems() != nil {
			t.Errorf("port %v: waits %s, %d requests, problems %q", port, wait, len(d.has), c.problems())
		}
	}
}
