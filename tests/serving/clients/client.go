// Client of a server with TLS and tokens, in Go: what it was answered, as JSON. Needs Debian's golang-google-grpc-dev.
// With Certificate and Key it asks one thing again and again, until a call fails or its standard input ends.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io/ioutil"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
)

// Bytes as they are.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error { *v.(*[]byte) = data; return nil }
func (raw) Name() string                               { return "raw" }

type token string

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}
func (token) RequireTransportSecurity() bool { return true }

type answer struct {
	Code    codes.Code
	Details string
	Reply   []byte
	Id      []string
}

// What is asked, from standard input.
type questions struct {
	Address, Authority, Certificate, Key, Path, Token string
	Request, Long, TooLong                            []byte
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var asked questions
	input := json.NewDecoder(os.Stdin)
	check(input.Decode(&asked))
	pem, err := ioutil.ReadFile(asked.Authority)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	configuration := tls.Config{RootCAs: roots}
	if asked.Certificate != "" {
		own, err := tls.LoadX509KeyPair(asked.Certificate, asked.Key)
		check(err)
		configuration.Certificates = []tls.Certificate{own}
	}
	secure := grpc.WithTransportCredentials(credentials.NewTLS(&configuration))
	connection, err := grpc.Dial(asked.Address, secure, grpc.WithPerRPCCredentials(token(asked.Token)))
	check(err)
	defer connection.Close()
	strangers, err := grpc.Dial(asked.Address, secure)
	check(err)
	defer strangers.Close()

	call := func(from *grpc.ClientConn, path string, body []byte, wait time.Duration, options ...grpc.CallOption) answer {
		within, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		within = metadata.AppendToOutgoingContext(within, "x-request-id", "from-go", "some-bin", "\x00\xff")
		var reply []byte
		var trailers metadata.MD
		err := from.Invoke(within, path, body, &reply, append(options, grpc.ForceCodec(raw{}), grpc.Trailer(&trailers))...)
		return answer{status.Code(err), status.Convert(err).Message(), reply, trailers.Get("x-request-id")}
	}
	const wait = 60 * time.Second
	if asked.Certificate != "" {
		ended := make(chan bool)
		go func() {
			input.Decode(&asked)
			close(ended)
		}()
		answered, failure := 0, ""
		for failure == "" {
			select {
			case <-ended:
				failure = "none"
			default:
				if answer := call(connection, asked.Path, asked.Request, wait); answer.Code == codes.OK {
					answered++
					time.Sleep(20 * time.Millisecond)
				} else {
					failure = answer.Code.String() + ": " + answer.Details
				}
			}
		}
		check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{"answered": answered, "failure": failure}))
		return
	}
	found := map[string]interface{}{
		"good":     call(connection, asked.Path, asked.Request, wait),
		"gzip":     call(connection, asked.Path, asked.Long, wait, grpc.UseCompressor(gzip.Name)),
		"long":     call(connection, asked.Path, asked.Long, wait),
		"too long": call(connection, asked.Path, asked.TooLong, wait),
		"wrong":    call(connection, asked.Path, []byte{255, 255, 255}, wait),
		"unknown":  call(connection, asked.Path+"No", nil, wait),
		"late":     call(connection, asked.Path, asked.Long, time.Millisecond),
		"stranger": call(strangers, asked.Path, asked.Request, wait),
		"after":    call(connection, asked.Path, asked.Request, wait),
	}

	many := make([]codes.Code, 200)
	var all sync.WaitGroup
	for n := range many {
		all.Add(1)
		go func(n int) {
			many[n] = call(connection, asked.Path, asked.Request, wait).Code
			all.Done()
		}(n)
	}
	all.Wait()
	found["many"] = many

	within, cancel := context.WithTimeout(context.Background(), wait)
	health := grpc_health_v1.NewHealthClient(connection)
	state, err := health.Check(within, &grpc_health_v1.HealthCheckRequest{})
	check(err)
	watch, err := health.Watch(within, &grpc_health_v1.HealthCheckRequest{})
	check(err)
	watched, err := watch.Recv()
	check(err)
	found["health"] = []string{state.Status.String(), watched.Status.String()}

	described, err := grpc_reflection_v1alpha.NewServerReflectionClient(connection).ServerReflectionInfo(within)
	check(err)
	check(described.Send(&grpc_reflection_v1alpha.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1alpha.ServerReflectionRequest_ListServices{},
	}))
	list, err := described.Recv()
	check(err)
	names := []string{}
	for _, service := range list.GetListServicesResponse().Service {
		names = append(names, service.Name)
	}
	found["services"] = names
	check(described.CloseSend())
	cancel()
	_, err = watch.Recv()
	found["cancelled"] = status.Code(err)
	check(json.NewEncoder(os.Stdout).Encode(found))
}
