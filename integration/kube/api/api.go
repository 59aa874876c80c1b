// Package api starts an API server of Kubernetes with its etcd on loopback, for
// tests that need objects and no nodes. Package cluster has whole clusters.
package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"onlink/integration/lab"
	"onlink/kube/client"
)

// Variable names the environment variable with the folder of Kubernetes' programs,
// as make test-kube sets it.
const Variable = "ONLINK_KUBE_BIN"

// startTime bounds the start of one program.
const startTime = 2 * time.Minute

// Server is an API server that has the CRDs of onlink.
type Server struct {
	Config *rest.Config
	Client *client.Client

	dir     string
	tokens  bytes.Buffer
	etcd    *exec.Cmd
	server  *exec.Cmd
	etcdURL string
	port    string
	ended   chan struct{} // closed by stop
}

// Start starts a server that lives until the test ends. Without Kubernetes'
// programs the test is skipped.
func Start(t *testing.T) *Server {
	t.Helper()
	bin := os.Getenv(Variable)
	if bin == "" {
		t.Skip("needs Kubernetes' programs: make test-kube sets $" + Variable)
	}
	s := &Server{dir: t.TempDir(), ended: make(chan struct{})}
	ctx := t.Context()
	if err := s.start(ctx, bin); err != nil {
		s.stop()
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	if err := s.applyCRDs(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// Launch starts a server, without onlink's CRDs, for tests in another kernel that
// [Attach] to it. Its files are in dir; [Server.Stop] ends it.
func Launch(ctx context.Context, bin, dir string) (*Server, error) {
	s := &Server{dir: dir, ended: make(chan struct{})}
	if err := s.start(ctx, bin); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// Stop ends a server that [Launch] started.
func (s *Server) Stop() { s.stop() }

// access is what another kernel knows of a server, as JSON.
type access struct {
	Address, Token string
	CA             []byte
}

// WriteAccess writes a file by which tests [Attach] to the server, which they reach at
// another address.
func (s *Server) WriteAccess(file, host string) error {
	ca, err := s.CA()
	if err != nil {
		return err
	}
	text, err := json.Marshal(access{net.JoinHostPort(host, s.port), s.Config.BearerToken, ca})
	if err != nil {
		return fmt.Errorf("write access: %w", err)
	}
	return os.WriteFile(file, text, 0o600)
}

// Attach returns a server that runs elsewhere; see [Server.WriteAccess].
func Attach(t *testing.T, file string) *Server {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var a access
	if err := json.Unmarshal(text, &a); err != nil {
		t.Fatal(err)
	}
	s := &Server{Config: &rest.Config{
		Host: "https://" + a.Address, BearerToken: a.Token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: a.CA, ServerName: "127.0.0.1"},
	}}
	if s.Client, err = client.New(s.Config); err != nil {
		t.Fatal(err)
	}
	return s
}

// CA returns the certificates by which clients know the server, as 127.0.0.1.
func (s *Server) CA() ([]byte, error) {
	if ca := s.Config.CAData; ca != nil {
		return ca, nil
	}
	return os.ReadFile(s.file("certs/apiserver.crt"))
}

// User returns a client that is another user than the administrator.
func (s *Server) User(t *testing.T, user string) *rest.Config {
	t.Helper()
	cfg := rest.CopyConfig(s.Config)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
	return cfg
}

// Kubernetes returns a client of all kinds that Kubernetes has, as the administrator;
// Client has the few that onlink needs.
func (s *Server) Kubernetes(t *testing.T) kubernetes.Interface {
	t.Helper()
	set, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Pause stops the API server's process, which then answers nothing; Continue ends
// that.
func (s *Server) Pause() error { return s.server.Process.Signal(syscall.SIGSTOP) }

// Continue ends [Server.Pause].
func (s *Server) Continue() error { return s.server.Process.Signal(syscall.SIGCONT) }

func (s *Server) start(ctx context.Context, bin string) error {
	var ports [3]string
	for i := range ports {
		port, err := freePort()
		if err != nil {
			return err
		}
		ports[i] = port
	}
	s.etcdURL, s.port = "http://127.0.0.1:"+ports[0], ports[2]
	peers := "http://127.0.0.1:" + ports[1]
	var err error
	s.etcd, err = s.run(bin, "etcd", "--data-dir", filepath.Join(s.dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", s.etcdURL, "--advertise-client-urls", s.etcdURL,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers)
	if err != nil {
		return err
	}
	if err := s.serviceAccountKey(); err != nil {
		return err
	}
	token := make([]byte, 16)
	_, _ = rand.Read(token) // it never fails: see crypto/rand
	s.Config = &rest.Config{
		Host: "https://127.0.0.1:" + s.port, BearerToken: hex.EncodeToString(token), QPS: -1, // tests hold nothing back
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // its certificate is made by itself, on loopback
	}
	fmt.Fprintf(&s.tokens, "%s,admin,admin,system:masters\n", s.Config.BearerToken)
	if err := os.WriteFile(s.file("tokens"), s.tokens.Bytes(), 0o600); err != nil {
		return err
	}
	s.server, err = s.run(bin, "kube-apiserver", "--etcd-servers", s.etcdURL, "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1",
		"--secure-port", s.port, "--cert-dir", s.file("certs"), "--token-auth-file", s.file("tokens"), "--authorization-mode", "RBAC",
		"--service-cluster-ip-range", "10.96.0.0/16,fd00:96::/112", "--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", s.file("sa.key"), "--service-account-signing-key-file", s.file("sa.key"),
		"--endpoint-reconciler-type", "none")
	if err != nil {
		return err
	}
	if s.Client, err = client.New(s.Config); err != nil {
		return err
	}
	return lab.Eventually(ctx, startTime, "API server", func() error {
		if err := alive(s.server); err != nil {
			return errors.Join(err, s.tail("kube-apiserver"))
		}
		if err := alive(s.etcd); err != nil {
			return errors.Join(err, s.tail("etcd"))
		}
		_, err := s.Client.CoreV1().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// run starts a program with its output in a file. It dies with this process.
func (s *Server) run(bin, name string, args ...string) (*exec.Cmd, error) {
	out, err := os.Create(s.file(name + ".log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	path := filepath.Join(bin, name)
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath(name); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(path, args...) //nolint:noctx // it ends in stop
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The signal comes with the end of the thread that started the program, not of
	// this process: threads that were in a network namespace end with their goroutine.
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- cmd.Start()
		<-s.ended
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return cmd, nil
}

// alive returns an error for a program that has ended.
func alive(cmd *exec.Cmd) error {
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WNOHANG, nil); err == nil && pid == cmd.Process.Pid {
		return fmt.Errorf("%s ended with %d", cmd.Path, status.ExitStatus())
	}
	return nil
}

func (s *Server) tail(name string) error {
	text, err := os.ReadFile(s.file(name + ".log"))
	if err != nil {
		return err
	}
	return errors.New(string(text[max(len(text)-4000, 0):]))
}

func (s *Server) stop() {
	close(s.ended)
	for _, cmd := range []*exec.Cmd{s.server, s.etcd} {
		if cmd != nil {
			_ = cmd.Process.Kill()
			_, _ = cmd.Process.Wait()
		}
	}
}

func (s *Server) serviceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(s.file("sa.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// applyCRDs creates the CRDs of the tree and waits until they are served.
func (s *Server) applyCRDs(ctx context.Context) error {
	files, err := CRDs()
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := s.ApplyCRD(ctx, f); err != nil {
			return err
		}
	}
	return lab.Eventually(ctx, startTime, "CRDs are served", func() error {
		var faults error
		for _, resource := range []string{"onlinkconfigs", "bgppeers", "bgpfilters", "ippools", "serviceadvertisements", "blocks", "onlinknodes"} {
			_, err := s.list(ctx, resource)
			faults = errors.Join(faults, err)
		}
		return faults
	})
}

// CRDs returns the files of the tree's CRDs.
func CRDs() ([]string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		files, err := filepath.Glob(filepath.Join(dir, "deploy/kubernetes/crds/*.yaml"))
		if err != nil || len(files) > 0 {
			return files, err
		}
	}
	return nil, errors.New("no folder above this one has deploy/kubernetes/crds")
}

// ApplyCRD creates the CRD of a file.
func (s *Server) ApplyCRD(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	err = s.Client.CoreV1().RESTClient().Post().AbsPath("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").
		SetHeader("Content-Type", "application/json").Body(doc).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("create the CRD of %s: %w", file, err)
	}
	return nil
}

// DeleteCRD deletes the CRD of a resource, and with it its objects; it returns when
// both are gone.
func (s *Server) DeleteCRD(ctx context.Context, resource string) error {
	path := "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/" + resource + ".onlink.io"
	if err := s.Client.CoreV1().RESTClient().Delete().AbsPath(path).Do(ctx).Error(); err != nil {
		return fmt.Errorf("delete the CRD of %s: %w", resource, err)
	}
	return lab.Eventually(ctx, startTime, "the CRD is gone", func() error {
		_, err := s.Client.CoreV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
		_, lerr := s.list(ctx, resource)
		switch {
		case apierrors.IsNotFound(err) && apierrors.IsNotFound(lerr):
			return nil
		case err == nil && lerr == nil:
			return errors.New("it is served")
		}
		return errors.Join(err, lerr)
	})
}

// RestoreCRD creates the CRD of a resource again.
func (s *Server) RestoreCRD(ctx context.Context, resource string) error {
	files, err := CRDs()
	if err != nil {
		return err
	}
	for _, f := range files {
		if filepath.Base(f) != "onlink.io_"+resource+".yaml" {
			continue
		}
		if err := s.ApplyCRD(ctx, f); err != nil {
			return err
		}
		return lab.Eventually(ctx, startTime, "the CRD is served", func() error {
			_, err := s.list(ctx, resource)
			return err
		})
	}
	return fmt.Errorf("no CRD of %s in the tree", resource)
}

func (s *Server) list(ctx context.Context, resource string) ([]byte, error) {
	return s.Client.CoreV1().RESTClient().Get().AbsPath("/apis/onlink.io/v1alpha1/"+resource).SetHeader("Accept", "application/json").DoRaw(ctx)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it listens at once
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
