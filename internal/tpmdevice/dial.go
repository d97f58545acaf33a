package tpmdevice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

const software = "swtpm:"

func isSoftware(address string) bool { return strings.HasPrefix(address, software) }

// dialer is how to open the TPM at an address.
func dialer(address string) (func() (transport.TPMCloser, error), error) {
	rest, soft := strings.CutPrefix(address, software)
	switch {
	case soft && filepath.IsAbs(rest):
		return func() (transport.TPMCloser, error) { return dialSocket("unix", rest) }, nil
	case soft:
		if host, port, err := net.SplitHostPort(rest); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("TPM address %q: want swtpm:HOST:PORT or swtpm:/path/to/socket", address)
		}
		return func() (transport.TPMCloser, error) { return dialSocket("tcp", rest) }, nil
	case filepath.IsAbs(address):
		return func() (transport.TPMCloser, error) { return linuxtpm.Open(address) }, nil
	}
	return nil, fmt.Errorf("TPM address %q: want a device such as /dev/tpmrm0, swtpm:HOST:PORT or swtpm:/path/to/socket", address)
}

// Dial opens the TPM at an address as At takes it, for commands of one's own.
func Dial(address string) (transport.TPMCloser, error) {
	dial, err := dialer(address)
	if err != nil {
		return nil, err
	}
	return dial()
}

// longest bounds one command: making an RSA key may take a TPM more than a minute.
const longest = 5 * time.Minute

// socket is the data channel of swtpm: commands and responses, one after the
// other, with nothing around them.
type socket struct{ net.Conn }

func dialSocket(network, address string) (transport.TPMCloser, error) {
	c, err := net.DialTimeout(network, address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	return &socket{c}, nil
}

// Send implements transport.TPM. A TPM that has something to do first wants to
// be asked again (TPM 2.0 Library, Part 2, Section 6.6.3: TPM_RC_RETRY).
func (s *socket) Send(command []byte) ([]byte, error) {
	for pause := time.Millisecond; ; pause *= 2 {
		response, err := s.exchange(command)
		if err != nil || tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) != tpm2.TPMRCRetry || pause > 2*time.Second {
			return response, err
		}
		time.Sleep(pause)
	}
}

func (s *socket) exchange(command []byte) ([]byte, error) {
	if err := s.SetDeadline(time.Now().Add(longest)); err != nil {
		return nil, err
	}
	if _, err := s.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, 10, 4096) // tag, size, response code
	if _, err := io.ReadFull(s, response); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(response[2:])
	if size < 10 || size > 4096 {
		return nil, errors.New("the answer is not one of a TPM")
	}
	response = response[:size]
	_, err := io.ReadFull(s, response[10:])
	return response, err
}
