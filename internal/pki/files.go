package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// The kinds of PEM blocks.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// The modes of new files: a key is its owner's alone.
const (
	certMode = 0o644
	keyMode  = 0o600
)

// Write writes the pair as two PEM files. A file that exists is not replaced: it is
// an error that matches [fs.ErrExist], and nothing is written.
func (p Pair) Write(certFile, keyFile string) error {
	raw, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return fmt.Errorf("encode private key: %w", err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: raw})
	cert := pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: p.Cert.Raw})
	if err := writeNew(certFile, cert, certMode); err != nil {
		return err
	}
	if err := writeNew(keyFile, key, keyMode); err != nil {
		return errors.Join(err, os.Remove(certFile)) // ours, and of no use without its key
	}
	return nil
}

// writeNew writes a file that is not there yet, durably.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already and is not replaced; move it away, or choose another folder: %w", path, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// ReadAuthority reads the authority's files: its certificate, and a private key as
// PKCS #8, SEC 1 or PKCS #1 have it, so that one made by OpenSSL serves too.
func ReadAuthority(certFile, keyFile string) (*Authority, error) {
	certs, err := ReadCertificates(certFile)
	if err != nil {
		return nil, err
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	cert := certs[0]
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !cert.IsCA:
		return nil, fmt.Errorf("%s: %s is no authority's certificate", certFile, cert.Subject)
	case !ok || !public.Equal(cert.PublicKey):
		return nil, fmt.Errorf("%s is not the key of %s", keyFile, certFile)
	}
	return &Authority{Pair{cert, key}}, nil
}

// ReadCertificates reads all certificates of a PEM file, in the order of the file.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type != certificateBlock {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no certificate in PEM form", path)
	}
	return out, nil
}

func readKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if !bytes.HasSuffix([]byte(b.Type), []byte(keyBlock)) {
			continue // EC PARAMETERS
		}
		for _, parse := range []func([]byte) (any, error){
			x509.ParsePKCS8PrivateKey,
			func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) },
			func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) },
		} {
			if key, err := parse(b.Bytes); err == nil {
				if signer, ok := key.(crypto.Signer); ok {
					return signer, nil
				}
			}
		}
		return nil, fmt.Errorf("%s: the private key cannot be read; it must not be encrypted", path)
	}
	return nil, fmt.Errorf("%s: no private key in PEM form", path)
}
