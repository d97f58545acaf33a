package main

import (
	"net"
	"os"
	"strings"
)

// notify tells systemd about a change of state ("READY=1"); without systemd it
// does nothing (sd_notify(3)).
func notify(state string) {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return
	}
	if strings.HasPrefix(address, "@") {
		address = "\x00" + address[1:] // the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return // there is nobody to tell
	}
	defer conn.Close()
	conn.Write([]byte(state))
}
