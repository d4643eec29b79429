package eudai_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eudai/eudai/clients/go"
	eudaiv1 "github.com/eudai/eudai/clients/go/eudai/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// certificate writes a self-signed certificate for 127.0.0.1, which is also its own authority.
func certificate(t *testing.T) (tls.Certificate, string, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{
			x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth,
		},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// echo answers with the token of the call.
func echo(ctx context.Context) (*eudaiv1.GetServerInfoResponse, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	return &eudaiv1.GetServerInfoResponse{
		Version: strings.Join(incoming.Get("authorization"), ","),
	}, nil
}

// tokenSent returns the authorization header that the server at this address receives.
func tokenSent(t *testing.T, address string, options ...eudai.Option) (string, error) {
	t.Helper()
	answer, err := dial(t, address, options...).Server.GetServerInfo(
		withTimeout(t), &eudaiv1.GetServerInfoRequest{})
	return answer.GetVersion(), err
}

func TestTLSAndMutualTLS(t *testing.T) {
	pair, certFile, keyFile := certificate(t)
	authorities := x509.NewCertPool()
	authorities.AddCert(pair.Leaf)
	address, _ := serve(t, &scriptedServer{info: echo}, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authorities,
	})))
	_, otherFile, _ := certificate(t)
	known, own := eudai.WithCAFile(certFile), eudai.WithClientCertificate(certFile, keyFile)

	for _, test := range []struct {
		name    string
		options []eudai.Option
		code    codes.Code
	}{
		{"with both", []eudai.Option{known, own, eudai.WithTokenFile(write(t, "abc\n"))}, codes.OK},
		{"no certificate of the client", []eudai.Option{known}, codes.Unavailable},
		{"another authority", []eudai.Option{own, eudai.WithCAFile(otherFile)}, codes.Unavailable},
		{"the system's authorities", []eudai.Option{own, eudai.WithTLS(nil)}, codes.Unavailable},
		{"plaintext", nil, codes.Unavailable},
	} {
		token, err := tokenSent(t, address, test.options...)
		var failure *eudai.Error
		switch {
		case test.code == codes.OK && (err != nil || token != "Bearer abc"):
			t.Errorf("%s: token %q, %v", test.name, token, err)
		case test.code != codes.OK && (!errors.As(err, &failure) || failure.Code != test.code):
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestTheEnvironmentSetsAddressAuthorityAndToken(t *testing.T) {
	pair, certFile, _ := certificate(t)
	address, _ := serve(t, &scriptedServer{info: echo}, grpc.Creds(
		credentials.NewServerTLSFromCert(&pair)))
	tokenFile := write(t, "first")
	t.Setenv("EUDAI_ADDRESS", address)
	t.Setenv("EUDAI_CA_FILE", certFile)
	t.Setenv("EUDAI_TOKEN_FILE", tokenFile)
	client := dial(t, "")

	for _, token := range []string{"first", "second"} {
		if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		answer, err := client.Server.GetServerInfo(
			withTimeout(t), &eudaiv1.GetServerInfoRequest{})
		if err != nil || answer.GetVersion() != "Bearer "+token {
			t.Errorf("token %s: %v, %v", token, answer, err)
		}
	}
}

func TestAnOptionReplacesTheEnvironment(t *testing.T) {
	pair, _, _ := certificate(t)
	_, otherFile, _ := certificate(t)
	authorities := x509.NewCertPool()
	authorities.AddCert(pair.Leaf)
	address, _ := serve(t, &scriptedServer{info: echo}, grpc.Creds(
		credentials.NewServerTLSFromCert(&pair)))
	t.Setenv("EUDAI_ADDRESS", "127.0.0.1:1")
	t.Setenv("EUDAI_CA_FILE", otherFile)
	t.Setenv("EUDAI_TOKEN_FILE", "missing")

	token, err := tokenSent(t, address, eudai.WithTLS(&tls.Config{RootCAs: authorities}),
		eudai.WithTokenFile(write(t, "abc")))

	if err != nil || token != "Bearer abc" {
		t.Errorf("token %q, %v", token, err)
	}
}

func TestATokenLeavesThisMachineOnlyEncrypted(t *testing.T) {
	token := eudai.WithToken(func(context.Context) (string, error) { return "abc", nil })
	local, _ := serve(t, &scriptedServer{info: echo})

	if sent, err := tokenSent(t, local, token); err != nil || sent != "Bearer abc" {
		t.Errorf("loopback: %q, %v", sent, err)
	}
	for _, address := range []string{
		"192.0.2.1:50051", "eudai.example:50051", "dns:///eudai.example:50051",
		"dns://192.0.2.1/localhost:50051", "localhost.example:50051",
	} {
		if _, err := eudai.Dial(address, token); err == nil ||
			!strings.Contains(err.Error(), "without encryption") {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := eudai.Dial(address, token, eudai.WithTLS(nil)); err != nil {
			t.Errorf("%s with TLS: %v", address, err)
		}
	}
}

func TestABadTokenFailsTheCall(t *testing.T) {
	address, _ := serve(t, &scriptedServer{info: echo})

	for token, wanted := range map[string]string{
		"  \n": "is empty", "two words": "contains a space", "ünïcode": "non-ASCII",
	} {
		_, err := tokenSent(t, address, eudai.WithTokenFile(write(t, token)))
		var failure *eudai.Error
		if !errors.As(err, &failure) || failure.Code != codes.Unauthenticated ||
			!strings.Contains(failure.Message, wanted) {
			t.Errorf("%q: %v", token, err)
		}
	}
}

func TestDialSaysWhatIsWrong(t *testing.T) {
	for wanted, dialled := range map[string]func() (*eudai.Client, error){
		"is not host:port":          func() (*eudai.Client, error) { return eudai.Dial("eudai") },
		"the CA file: open missing": func() (*eudai.Client, error) { return withFile("missing") },
		"contains no PEM":           func() (*eudai.Client, error) { return withFile(write(t, "x")) },
		"the client certificate":    func() (*eudai.Client, error) { return withCertificate("missing") },
	} {
		if _, err := dialled(); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s: %v", wanted, err)
		}
	}
}

func withFile(path string) (*eudai.Client, error) {
	return eudai.Dial("localhost:1", eudai.WithCAFile(path))
}

func withCertificate(path string) (*eudai.Client, error) {
	return eudai.Dial("localhost:1", eudai.WithClientCertificate(path, path))
}
