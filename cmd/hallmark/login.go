package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hallmark-pki/hallmark/operators"
	"github.com/hallmark-pki/hallmark/operators/oidc"
)

// alone makes a command that is a verb without a noun.
func alone(c *connection, command *cobra.Command) *cobra.Command {
	c.flags(command)
	return command
}

func loginCommand() *cobra.Command {
	c := &connection{nobody: true}
	var device, quiet bool
	command := &cobra.Command{
		Use:   "login",
		Short: "Sign in at the identity provider, for all commands that are given no certificate",
		Long: "Signs in at the server's identity provider by a browser on this machine, or with --device by a code that is typed in a\n" +
			"browser elsewhere. The session is kept in the user's configuration directory and used by every command to the same\n" +
			"server that is given no certificate; without --server and a data directory, to the server that was signed in at last.",
		Example: "  hallmark login --server https://ca.example.com:8443 --ca root.crt\n  hallmark login --device",
		Args:    noArgs,
	}
	command.RunE = c.verb(func(ctx context.Context, s *session, _ []string) error {
		ctx, cancel := context.WithTimeout(ctx, oidc.Patience)
		defer cancel()
		var made issuedLogin
		var err error
		if device {
			made, err = s.loginElsewhere(ctx)
		} else {
			made, err = s.loginHere(ctx, !quiet)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return errors.New("nobody has signed in in time; try again")
		}
		if err != nil {
			return err
		}
		k := keptLogin{Server: s.base, CA: s.anchors, ID: made.ID, Operator: made.Operator, Token: made.Token, Created: made.Created, Expires: made.Expires}
		if err := k.keep(); err != nil {
			return fmt.Errorf("signed in, but the session could not be kept: %w", err)
		}
		if s.json {
			return printJSON(s.out, made.Session)
		}
		_, err = fmt.Fprintf(s.out, "%s is signed in until %s at the latest\n", escape(made.Operator), made.Expires.Local().Format(time.DateTime))
		return err
	})
	command.Flags().BoolVar(&device, "device", false, "by a code that is typed in a browser on another machine")
	command.Flags().BoolVar(&quiet, "no-browser", false, "only print the address, open no browser")
	return alone(c, command)
}

// issuedLogin is a session as the server hands it out.
type issuedLogin struct {
	operators.Session
	Token string `json:"token"`
}

// loginHere signs in by a browser on this machine, which comes back to a port that
// is listened on here (RFC 8252, Section 7.3).
func (s *session) loginHere(ctx context.Context, open bool) (issuedLogin, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return issuedLogin{}, err
	}
	verifier, state := rand.Text()+rand.Text(), rand.Text() // RFC 7636, Section 4.1: 43 characters and more
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{"port": {strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)}, "state": {state},
		"challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}}
	address := s.base + "/api/v1/login?" + q.Encode()

	if err := s.leads(ctx, address); err != nil {
		listener.Close()
		return issuedLogin{}, err
	}
	var made issuedLogin
	ended := make(chan error, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := r.URL.Query()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Connection", "close")
		if r.Method != http.MethodGet || r.URL.Path != "/" || answer.Get("state") != state { // somebody else, or a browser that wants an icon
			http.Error(w, "This is not what is waited for.", http.StatusNotFound)
			return
		}
		outcome, err := s.fetchLogin(ctx, answer, verifier)
		if err != nil {
			fmt.Fprintf(w, "Not signed in: %s\n", escape(err.Error()))
		} else {
			made = outcome
			fmt.Fprintf(w, "%s is signed in. This window can be closed.\n", escape(outcome.Operator))
		}
		select {
		case ended <- err:
		default: // it has ended before
		}
	})}
	go server.Serve(listener)
	defer server.Shutdown(context.WithoutCancel(ctx)) // lets the page above reach the browser
	fmt.Fprintf(s.err, "Sign in with a browser on this machine:\n\n  %s\n\n", address)
	if open {
		openBrowser(ctx, address)
	}
	select {
	case err := <-ended:
		return made, err
	case <-ctx.Done():
		return issuedLogin{}, ctx.Err()
	}
}

// leads returns what is wrong if the address does not lead to a provider, before somebody goes there.
func (s *session) leads(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	client := *s.http
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		return s.explain(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSeeOther {
		return readRefusal(response)
	}
	return nil
}

// fetchLogin turns what the browser has brought into a session.
func (s *session) fetchLogin(ctx context.Context, answer url.Values, verifier string) (issuedLogin, error) {
	if code := answer.Get("error"); code != "" {
		return issuedLogin{}, fmt.Errorf("%s (%s)", escape(answer.Get("error_description")), escape(code))
	}
	var made issuedLogin
	err := s.do(ctx, "POST", "/api/v1/login/token", nil, object(map[string]string{"code": answer.Get("code"), "verifier": verifier}), &made)
	return made, err
}

// openBrowser does what it can; the address is on the screen in any case.
func openBrowser(ctx context.Context, address string) {
	program := "xdg-open"
	switch {
	case runtime.GOOS == "darwin":
		program = "open"
	case os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "":
		return
	}
	if c := exec.CommandContext(ctx, program, address); c.Start() == nil {
		go c.Wait()
	}
}

// loginElsewhere signs in by a code that is typed in a browser on another machine (RFC 8628).
func (s *session) loginElsewhere(ctx context.Context) (issuedLogin, error) {
	var begun oidc.Device
	if err := s.do(ctx, "POST", "/api/v1/login/device", nil, nil, &begun); err != nil {
		return issuedLogin{}, err
	}
	address := begun.Complete
	if address == "" {
		address = begun.Address
	}
	fmt.Fprintf(s.err, "Sign in with a browser anywhere:\n\n  %s\n\nand see to it that the code there is %s\n", escape(address), escape(begun.UserCode))
	wait := time.Duration(max(begun.Interval, 1)) * time.Second
	for {
		select {
		case <-ctx.Done():
			return issuedLogin{}, ctx.Err()
		case <-time.After(wait):
		}
		var made issuedLogin
		err := s.do(ctx, "POST", "/api/v1/login/device/token", nil, object(map[string]string{"handle": begun.Handle}), &made)
		if refused, ok := errors.AsType[*refusal](err); !ok || refused.Code != "authorization_pending" {
			return made, err
		}
	}
}

func logoutCommand() *cobra.Command {
	c := &connection{session: true}
	return alone(c, &cobra.Command{
		Use:     "logout",
		Short:   "End the session that \"hallmark login\" has begun",
		Example: "  hallmark logout",
		Args:    noArgs,
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			if err := s.do(ctx, "POST", "/api/v1/logout", nil, nil, nil); err != nil && findLogin(s.base) != nil { // else it had ended before
				return err
			}
			if err := forgetLogin(s.base); err != nil {
				return err
			}
			return s.deed("operator", s.operator, "signed out")
		}),
	})
}

func whoamiCommand() *cobra.Command {
	c := new(connection)
	return alone(c, &cobra.Command{
		Use:     "whoami",
		Short:   "Show who one is to the server, and how one has proven it",
		Example: "  hallmark whoami",
		Args:    noArgs,
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			var raw json.RawMessage
			if err := s.do(ctx, "GET", "/api/v1/session", nil, nil, &raw); err != nil {
				return err
			}
			var who struct {
				Operator string            `json:"operator"`
				Roles    []operators.Role  `json:"roles"`
				Auth     map[string]any    `json:"auth"`
				Opened   *operators.Opened `json:"breakglass"`
				Session  *struct {
					operators.Session
					Idle time.Time `json:"idle_until"`
				} `json:"session"`
			}
			if err := json.Unmarshal(raw, &who); err != nil {
				return err
			}
			return s.print(raw, func() [][2]string {
				text := func(name string) string { t, _ := who.Auth[name].(string); return t }
				pairs := [][2]string{{"operator", who.Operator}, {"server", s.base}, {"by", text("method")}, {"serial", text("serial")},
					{"issuer", text("issuer")}, {"subject", text("sub")}}
				for _, r := range who.Roles {
					pairs = append(pairs, [2]string{"role", r.Name + scopeText(r.Scope)})
				}
				if who.Opened != nil {
					pairs = append(pairs, [2]string{"break-glass", who.Opened.Reason})
				}
				if own := who.Session; own != nil {
					pairs = append(pairs, [2]string{"session", own.ID}, [2]string{"since", when(own.Created)},
						[2]string{"ends", when(own.Expires)}, [2]string{"ends unused", when(own.Idle)})
				}
				return pairs
			})
		}),
	})
}

func sessionCommand() *cobra.Command {
	c := new(connection)
	return noun("session", "Who is signed in", c, sessionList(c), sessionEnd(c))
}

func sessionList(c *connection) *cobra.Command {
	var whose string
	var page paging
	list := &cobra.Command{
		Use:     "list",
		Short:   "List sessions: one's own, or others'",
		Example: "  hallmark session list --operator '*'",
		Args:    takes(),
		RunE: c.verb(func(ctx context.Context, s *session, _ []string) error {
			q := url.Values{}
			putText(q, "operator", whose)
			return listing[operators.Session]{
				path:    "/api/v1/sessions",
				columns: []string{"ID", "OPERATOR", "KIND", "SOURCE", "SINCE", "USED", "ENDS"},
				row: func(o operators.Session) []string {
					return []string{o.ID, o.Operator, string(o.Kind), o.Source, when(o.Created), when(o.Used), when(o.Expires)}
				},
				none: "Nobody is signed in.",
			}.print(ctx, s, q, page)
		}),
	}
	list.Flags().StringVar(&whose, "operator", "", "sessions of this operator, or * for all (default: one's own)")
	page.flags(list)
	return list
}

func sessionEnd(c *connection) *cobra.Command {
	return &cobra.Command{
		Use:     "end ID",
		Short:   "Sign a session out, at once and everywhere",
		Example: "  hallmark session end 06h0natio2b8t6m570pv0u3dm4",
		Args:    takes("ID"),
		RunE: c.verb(func(ctx context.Context, s *session, args []string) error {
			if err := s.do(ctx, "DELETE", "/api/v1/sessions/"+url.PathEscape(args[0]), nil, nil, nil); err != nil {
				return err
			}
			return s.deed("session", args[0], "ended")
		}),
	}
}

// credentialed decides what a command calls with: the certificate that it was given,
// else a session that is kept for the server, else the data directory's operator.
func (c *connection) credentialed(base string) (*keptLogin, error) {
	switch {
	case c.nobody || c.cert != "":
		return nil, nil
	case c.session:
		if k := findLogin(base); k != nil {
			return k, nil
		}
		return nil, fmt.Errorf("nobody is signed in at %s from here", base)
	}
	return findLogin(base), nil
}

// ended explains that the session is over, and forgets it.
func (s *session) ended(r *refusal) error {
	if s.token == "" || r.Code != "session_ended" {
		return r
	}
	return errors.Join(fmt.Errorf("the session has ended: sign in again (hallmark login --server %s), or name a certificate with --cert and --key", s.base), forgetLogin(s.base))
}

// bindingFlags say by what the identity provider knows an operator.
type bindingFlags struct{ subject, email string }

func (f *bindingFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.subject, "oidc", "", "sub of the operator at the identity provider: they sign in there")
	c.Flags().StringVar(&f.email, "oidc-email", "", "their verified email address there; whoever first signs in with it is bound by their sub")
}

// given reports whether any of the flags was.
func (f *bindingFlags) given() bool { return f.subject != "" || f.email != "" }

// unbound is the subject that nobody has.
const unbound = "none"

// body is the binding as the API takes it.
func (f *bindingFlags) body() map[string]string {
	b := map[string]string{}
	if f.subject != "" && f.subject != unbound {
		b["oidc_subject"] = f.subject
	}
	if f.email != "" {
		b["oidc_email"] = strings.TrimSpace(f.email)
	}
	return b
}
