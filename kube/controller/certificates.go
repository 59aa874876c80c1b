package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"onlink/kube/api/v1alpha1"
	"onlink/kube/certificate"
	"onlink/kube/client"
)

// Reasons of a request's condition, and of Events about the authority.
const (
	reasonApproved = "OnlinkNode"
	reasonDenied   = "OnlinkDenied"
	reasonAbsent   = "AuthorityAbsent"
	reasonBroken   = "AuthorityBroken"
)

// trustKey is that of the ConfigMap with the authority's certificates.
const trustKey = "ca.crt"

// issuer answers the nodes' requests for certificates, and keeps the authority that signs
// them. It makes one for the first request of a cluster. Later an absent or broken one is
// an alarm and nothing is written over it: a new one in its place would part the nodes
// into those that have it and those that do not, and a Secret may be restored.
type issuer struct {
	c          *controller
	account    string // the user of the nodes' pods
	secrets    *client.Resource[*corev1.Secret, *corev1.SecretList]
	configMaps *client.Resource[*corev1.ConfigMap, *corev1.ConfigMapList]
}

func newIssuer(c *controller) *issuer {
	return &issuer{
		c: c, account: "system:serviceaccount:" + c.opt.Namespace + ":onlink-node",
		secrets: c.client.CoreV1().Secrets(certificate.Namespace(c.opt.Namespace)), configMaps: c.client.CoreV1().ConfigMaps(c.opt.Namespace),
	}
}

func (i *issuer) turn(ctx context.Context) error {
	if !i.c.w.requests.HasSynced() {
		return nil // before the whole list; the log says why there is none
	}
	open := slices.DeleteFunc(list[*certificatesv1.CertificateSigningRequest](i.c.w.requests), answered)
	var all error
	known := i.owners(len(open) > 0)
	granted := map[*certificatesv1.CertificateSigningRequest]*grant{}
	for _, r := range open {
		g, why, err := i.judge(ctx, r, known)
		switch {
		case err != nil:
			all = errors.Join(all, err)
		case why != nil:
			all = errors.Join(all, i.deny(ctx, r, why))
		default:
			granted[r] = g
		}
	}
	ring, err := i.authority(ctx, len(granted) > 0)
	if err != nil || ring == nil {
		return errors.Join(all, err)
	}
	for r, g := range granted {
		all = errors.Join(all, i.issue(ctx, ring, r, g))
	}
	return all
}

// answered reports whether a request has its answer.
func answered(r *certificatesv1.CertificateSigningRequest) bool {
	return len(r.Status.Certificate) > 0 || has(r, certificatesv1.CertificateDenied) || has(r, certificatesv1.CertificateFailed)
}

func has(r *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(r.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool { return c.Type == kind })
}

// grant is what a node gets.
type grant struct {
	*certificate.Granted

	node string
}

// judge returns what a request gets, or why it gets nothing. The cache may lag behind a
// node that begins: nothing is denied before a live look at the Node.
func (i *issuer) judge(ctx context.Context, r *certificatesv1.CertificateSigningRequest, known owners) (g *grant, why, err error) {
	name, why := certificate.Requester(r, i.account)
	if why != nil {
		return nil, why, nil
	}
	if n, ok := get[*corev1.Node](i.c.w.nodes, name); ok {
		if g, why := known.judge(r, n); why == nil {
			return g, nil, nil
		}
	}
	n, err := i.c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case gone(err):
		return nil, fmt.Errorf("there is no Node %s", name), nil
	case err != nil:
		return nil, nil, fmt.Errorf("read Node %s: %w", name, err)
	}
	g, why = known.judge(r, n)
	return g, why, nil
}

// owners are the names of the Nodes that have an address.
type owners map[netip.Addr][]string

// owners returns those of all addresses, for the requests of one turn; nil: there are
// none.
func (i *issuer) owners(asked bool) owners {
	if !asked {
		return nil
	}
	o := owners{}
	for _, n := range list[*corev1.Node](i.c.w.nodes) {
		for _, a := range certificate.Addresses(n) {
			o[a] = append(o[a], n.Name)
		}
	}
	return o
}

// judge returns what a request of a node gets. A node writes its own Node's addresses: it
// must not get another's by that.
func (o owners) judge(r *certificatesv1.CertificateSigningRequest, n *corev1.Node) (*grant, error) {
	g, why := certificate.Judge(r, n)
	if why != nil {
		return nil, why
	}
	for _, a := range g.Addresses {
		if at := slices.IndexFunc(o[a], func(name string) bool { return name != n.Name }); at >= 0 {
			return nil, fmt.Errorf("the address %s is that of Node %s too", a, o[a][at])
		}
	}
	return &grant{g, n.Name}, nil
}

// deny writes the reason into the request. One that a person has approved fails instead.
func (i *issuer) deny(ctx context.Context, r *certificatesv1.CertificateSigningRequest, why error) error {
	kind, part := certificatesv1.CertificateDenied, "approval"
	if has(r, certificatesv1.CertificateApproved) {
		kind, part = certificatesv1.CertificateFailed, "status"
	}
	if _, err := i.conclude(ctx, r, kind, reasonDenied, why.Error(), part); err != nil {
		return err
	}
	i.c.log.Warn("denied a certificate", "request", r.Name, "user", r.Spec.Username, "why", why)
	return nil
}

// conclude adds a condition to a request.
func (i *issuer) conclude(ctx context.Context, r *certificatesv1.CertificateSigningRequest, kind certificatesv1.RequestConditionType, reason, message, part string) (*certificatesv1.CertificateSigningRequest, error) {
	next := r.DeepCopy()
	next.Status.Conditions = append(next.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: metav1.Now(),
	})
	next, err := i.c.client.CertificatesV1().Requests().UpdatePart(ctx, next, metav1.UpdateOptions{}, part)
	if err != nil {
		return nil, fmt.Errorf("answer CertificateSigningRequest %s: %w", r.Name, err)
	}
	return next, nil
}

// issue approves a request and signs its certificate.
func (i *issuer) issue(ctx context.Context, ring *certificate.Ring, r *certificatesv1.CertificateSigningRequest, g *grant) (err error) {
	if !has(r, certificatesv1.CertificateApproved) {
		message := fmt.Sprintf("a pod of node %s asks for the certificate of its agent", g.node)
		if r, err = i.conclude(ctx, r, certificatesv1.CertificateApproved, reasonApproved, message, "approval"); err != nil {
			return err
		}
	}
	life := i.c.opt.CertificateLife
	if s := r.Spec.ExpirationSeconds; s != nil {
		life = min(life, time.Duration(*s)*time.Second)
	}
	next := r.DeepCopy()
	if next.Status.Certificate, err = ring.Issue(g.node, g.Granted, time.Now(), life); err != nil {
		return fmt.Errorf("sign the certificate of node %s: %w", g.node, err)
	}
	if _, err = i.c.client.CertificatesV1().Requests().UpdateStatus(ctx, next, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("answer CertificateSigningRequest %s: %w", r.Name, err)
	}
	i.c.log.Info("issued the certificate of a node", "node", g.node, "request", r.Name)
	return nil
}

// authority returns the authority, brought up to date; nil: there is none. One is made
// where a certificate is wanted and there never was one, which the ConfigMap shows.
func (i *issuer) authority(ctx context.Context, wanted bool) (*certificate.Ring, error) {
	// In this order: one that another replica makes meanwhile is not taken for one that is gone.
	trust, err := i.configMaps.Get(ctx, certificate.Name, metav1.GetOptions{})
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("read ConfigMap %s: %w", certificate.Name, err)
	}
	known := err == nil
	s, err := i.secrets.Get(ctx, certificate.Name, metav1.GetOptions{})
	if err != nil && !gone(err) {
		return nil, fmt.Errorf("read Secret %s: %w", certificate.Name, err)
	}
	present := err == nil
	i.alarm("authority_absent", reasonAbsent, !present && known,
		"the Secret with the authority of the nodes' certificates is gone: restore it, or delete the ConfigMap "+certificate.Name+" too for a new one")
	var ring *certificate.Ring
	switch {
	case present:
		ring, err = i.turnRing(ctx, s)
	case known || !wanted:
		return nil, nil //nolint:nilnil // the alarm is set, or nothing asks
	default:
		ring, err = i.create(ctx)
	}
	if err != nil || ring == nil {
		return nil, err
	}
	return ring, i.publish(ctx, trust, known, ring)
}

// turnRing reads the Secret and replaces the authority when that is due. The version of
// the Secret keeps two replicas from replacing it by two.
func (i *issuer) turnRing(ctx context.Context, s *corev1.Secret) (*certificate.Ring, error) {
	ring, err := certificate.ParseRing(s.Data)
	why := ""
	if err != nil {
		why = err.Error()
	}
	i.alarm("authority_broken", reasonBroken, err != nil, "the Secret with the authority of the nodes' certificates cannot be read, restore it: "+why)
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // the alarm is set
	}
	_, rotate := s.Annotations[certificate.RotateAnnotation]
	next, done, err := ring.Turn(time.Now(), i.c.opt.CertificateLife, rotate)
	if err != nil || done == "" {
		return ring, err
	}
	changed := s.DeepCopy()
	if ring.Next == nil && next.Next != nil {
		delete(changed.Annotations, certificate.RotateAnnotation)
	}
	if changed.Data, err = next.Data(); err != nil {
		return nil, err
	}
	if _, err := i.secrets.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("write Secret %s: %w", certificate.Name, err)
	}
	i.c.log.Info("the authority of the nodes' certificates is being replaced", "step", done)
	return next, nil
}

// create makes the authority. Of two replicas the second finds that of the first.
func (i *issuer) create(ctx context.Context) (*certificate.Ring, error) {
	ring, err := certificate.NewRing(time.Now())
	if err != nil {
		return nil, err
	}
	data, err := ring.Data()
	if err != nil {
		return nil, err
	}
	_, err = i.secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: certificate.Name}, Type: corev1.SecretTypeOpaque, Data: data}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create Secret %s: %w", certificate.Name, err)
	}
	i.c.log.Info("made the authority of the nodes' certificates", "secret", certificate.Namespace(i.c.opt.Namespace)+"/"+certificate.Name)
	return ring, nil
}

// publish writes the certificates of the authority into the ConfigMap, for people, and as
// the trace of an authority.
func (i *issuer) publish(ctx context.Context, have *corev1.ConfigMap, known bool, ring *certificate.Ring) (err error) {
	data := map[string]string{trustKey: string(ring.Trust())}
	switch {
	case known && maps.Equal(have.Data, data):
		return nil
	case known:
		next := have.DeepCopy()
		next.Data = data
		_, err = i.configMaps.Update(ctx, next, metav1.UpdateOptions{})
	default:
		_, err = i.configMaps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: certificate.Name}, Data: data}, metav1.CreateOptions{})
	}
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("write ConfigMap %s: %w", certificate.Name, err)
	}
	return nil
}

// alarm sets an alarm; a new one is logged, and is an Event of the OnlinkConfig.
func (i *issuer) alarm(name, reason string, on bool, message string) {
	if !i.c.m.alarm(name, on) {
		return
	}
	i.c.log.Error("no certificate is issued", "why", message)
	if cfg, ok := get[*v1alpha1.OnlinkConfig](i.c.w.configs, v1alpha1.ConfigName); ok {
		i.c.events.Record(reference("OnlinkConfig", cfg), corev1.EventTypeWarning, reason, message)
	}
}
