package eudai

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Option changes how Dial connects.
type Option func(*settings)

type settings struct {
	tls         *tls.Config // nil for plaintext
	caFile      string
	certFile    string
	keyFile     string
	token       TokenSource
	dialOptions []grpc.DialOption
}

// TokenSource returns the token of a call, without "Bearer". It is called for every call, so it
// must cache a token that is expensive to get.
type TokenSource func(context.Context) (string, error)

// WithTLS encrypts the connection. If config is nil, the server's certificate must be valid for its
// host name and signed by an authority that this machine or EUDAI_CA_FILE trusts.
// RootCAs in config replace an earlier CA file.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) {
		if config == nil {
			config = &tls.Config{}
		}
		if config.RootCAs != nil {
			s.caFile = ""
		}
		s.tls = config.Clone()
	}
}

// WithCAFile encrypts the connection, and trusts only the authorities in a PEM file. EUDAI_CA_FILE
// has the same effect.
func WithCAFile(path string) Option { return func(s *settings) { s.caFile = path } }

// WithClientCertificate encrypts the connection, and presents a certificate to the server (mutual
// TLS). Both files are PEM.
func WithClientCertificate(certFile, keyFile string) Option {
	return func(s *settings) { s.certFile, s.keyFile = certFile, keyFile }
}

// WithToken sends a bearer token with every call. Without encryption, Dial allows it only for a
// loopback address.
func WithToken(source TokenSource) Option { return func(s *settings) { s.token = source } }

// WithTokenFile sends the token in a file with every call, as WithToken does. The file is read for
// every call, so that a rotated token is used at once. EUDAI_TOKEN_FILE has the same effect.
func WithTokenFile(path string) Option { return WithToken(tokenFile(path)) }

// WithDialOptions adds gRPC's own options. They override those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dialOptions = append(s.dialOptions, options...) }
}

func settingsFromEnvironment() *settings {
	s := &settings{caFile: os.Getenv("EUDAI_CA_FILE")}
	if path := os.Getenv("EUDAI_TOKEN_FILE"); path != "" {
		s.token = tokenFile(path)
	}
	return s
}

// credentials returns the dial options for encryption and the token.
func (s *settings) credentials(address string) ([]grpc.DialOption, error) {
	config, err := s.tlsConfig()
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if config != nil {
		transport = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if s.token != nil {
		plaintext := config == nil
		if plaintext && !isLoopback(address) {
			return nil, fmt.Errorf("a token would be sent to %s without encryption; use WithTLS, "+
				"WithCAFile or EUDAI_CA_FILE, or an address of this machine", address)
		}
		options = append(options, grpc.WithPerRPCCredentials(bearer{s.token, !plaintext}))
	}
	return options, nil
}

// tlsConfig returns nil if no option asks for encryption.
func (s *settings) tlsConfig() (*tls.Config, error) {
	config := s.tls
	if config == nil {
		if s.caFile == "" && s.certFile == "" {
			return nil, nil
		}
		config = &tls.Config{}
	}
	if s.caFile != "" {
		pem, err := os.ReadFile(s.caFile)
		if err != nil {
			return nil, fmt.Errorf("the CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the CA file %s contains no PEM certificate", s.caFile)
		}
	}
	if s.certFile != "" {
		certificate, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
		if err != nil {
			return nil, fmt.Errorf("the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

func tokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("the token file: %w", err)
		}
		token := strings.TrimSpace(string(data))
		if token == "" {
			return "", fmt.Errorf("the token file %s is empty", path)
		}
		return token, nil
	}
}

// isLoopback says whether address is on this machine: a loopback IP, localhost or a Unix socket.
func isLoopback(address string) bool {
	if strings.HasPrefix(address, "unix:") || strings.HasPrefix(address, "unix-abstract:") {
		return true
	}
	// Another target, such as "dns://server/localhost:50051", may resolve to any machine.
	host, _, err := net.SplitHostPort(strings.TrimPrefix(address, "dns:///"))
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// bearer adds a token to the metadata of each call.
type bearer struct {
	source    TokenSource
	encrypted bool
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token contains a space, a control character or non-ASCII text")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return b.encrypted }
