// Command hello is the program of the test cluster's pods. It answers on TCP and
// UDP port 8080, over HTTP and with a datagram, with its pod's name and the
// address that the request came from. It can be made a client: over HTTP,
// ?get=URL requests that URL and ?udp=HOST:PORT sends a datagram there; the
// answer is passed on. To the API server it is its pod's service account.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// patience bounds what a pod waits for as a client.
const patience = 3 * time.Second

func main() {
	name, err := os.Hostname()
	if err == nil {
		err = serve(name)
	}
	fmt.Fprintln(os.Stderr, "hello:", err)
	os.Exit(1)
}

func serve(name string) error {
	packets, err := net.ListenPacket("udp", ":8080")
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- answer(packets, name) }()
	server := &http.Server{Addr: ":8080", Handler: handler(name), ReadHeaderTimeout: patience}
	go func() { ended <- server.ListenAndServe() }()
	// The first process of a container is not ended by a signal that it ignores.
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		os.Exit(0)
	case err = <-ended:
	}
	return err
}

// answer echoes the sender's address to every datagram.
func answer(packets net.PacketConn, name string) error {
	buffer := make([]byte, 1500)
	for {
		_, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if _, err := packets.WriteTo([]byte(greeting(name, from.String())), from); err != nil {
			fmt.Fprintln(os.Stderr, "failed to answer:", err)
		}
	}
}

func greeting(name, from string) string { return fmt.Sprintf("hello from %s to %s\n", name, from) }

// account is where a pod finds its service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// newClient trusts the cluster's authority where the pod has a service account.
func newClient() *http.Client {
	roots := x509.NewCertPool()
	if text, err := os.ReadFile(account + "ca.crt"); err == nil {
		roots.AppendCertsFromPEM(text)
	}
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	}}
}

func handler(name string) http.Handler {
	client := newClient()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("request from", r.RemoteAddr, r.URL)
		url, far := r.URL.Query().Get("get"), r.URL.Query().Get("udp")
		var text string
		var err error
		switch {
		case url != "":
			text, err = get(client, url)
		case far != "":
			text, err = send(far)
		default:
			fmt.Fprint(w, greeting(name, r.RemoteAddr))
			return
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "via %s: %s", name, text)
	})
}

func get(client *http.Client, url string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	if request.URL.Scheme == "https" {
		token, err := os.ReadFile(account + "token")
		if err != nil {
			return "", err
		}
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	reply, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", reply.Status, text)
	}
	return string(text), err
}

// send sends a datagram, and again each second: the first of a new service may
// find no rule yet.
func send(far string) (string, error) {
	conn, err := net.Dial("udp", far)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buffer := make([]byte, 1500)
	end := time.Now().Add(patience)
	for {
		if _, err = conn.Write([]byte("hello")); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(buffer)
		if err == nil {
			return string(buffer[:n]), nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
			return "", err
		}
	}
}
