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
	key, err := EncodeKey(p.Key)
	if err != nil {
		return err
	}
	cert := EncodeCertificates(p.Cert)
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

// EncodeKey returns a private key as a PEM block.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: raw}), nil
}

// EncodeCertificates returns certificates as PEM blocks.
func EncodeCertificates(list ...*x509.Certificate) (out []byte) {
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Raw})...)
	}
	return out
}

// ReadAuthority reads the authority's files: its certificate, and a private key as
// PKCS #8, SEC 1 or PKCS #1 have it, so that one made by OpenSSL serves too.
func ReadAuthority(certFile, keyFile string) (*Authority, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	return ParseAuthority(certFile, cert, keyFile, key)
}

// ParseAuthority is ReadAuthority of texts, whose names are for its errors.
func ParseAuthority(certName string, certText []byte, keyName string, keyText []byte) (*Authority, error) {
	p, err := ParsePair(certName, certText, keyName, keyText)
	switch {
	case err != nil:
		return nil, err
	case !p.Cert.IsCA:
		return nil, fmt.Errorf("%s: %s is no authority's certificate", certName, p.Cert.Subject)
	}
	return &Authority{p}, nil
}

// ParsePair returns the first certificate of a text, and its key.
func ParsePair(certName string, certText []byte, keyName string, keyText []byte) (Pair, error) {
	certs, err := ParseCertificates(certText)
	if err != nil {
		return Pair{}, fmt.Errorf("%s: %w", certName, err)
	}
	key, err := ParseKey(keyText)
	if err != nil {
		return Pair{}, fmt.Errorf("%s: %w", keyName, err)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(certs[0].PublicKey) {
		return Pair{}, fmt.Errorf("%s is not the key of %s", keyName, certName)
	}
	return Pair{certs[0], key}, nil
}

// ReadCertificates reads all certificates of a PEM file, in the order of the file.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

// ParseCertificates returns the certificates of a text in their order: one at least.
func ParseCertificates(text []byte) (out []*x509.Certificate, err error) {
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type != certificateBlock {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	return out, nil
}

// ParseKey returns the first private key of a text.
func ParseKey(text []byte) (crypto.Signer, error) {
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
		return nil, errors.New("the private key cannot be read; it must not be encrypted")
	}
	return nil, errors.New("no private key in PEM form")
}
