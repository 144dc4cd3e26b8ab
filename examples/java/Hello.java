import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Serves one page that names the release, and /health. */
public final class Hello {
    public static void main(String[] args) throws IOException {
        Map<String, String> env = System.getenv();
        String version = Files.readString(Path.of("VERSION")).strip();
        String greeting = env.getOrDefault("GREETING", "Hello from");
        Map<String, String> pages = Map.of("/", greeting + " " + version + "\n", "/health", "ok\n");

        int port = Integer.parseInt(env.getOrDefault("PORT", "5000"));
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 1024);
        ExecutorService threads = Executors.newFixedThreadPool(16);
        server.setExecutor(threads);
        server.createContext("/", exchange -> {
            String page = pages.get(exchange.getRequestURI().getPath());
            byte[] body = (page == null ? "no such page\n" : page).getBytes();
            exchange.sendResponseHeaders(page == null ? 404 : 200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        // The JVM runs the hook on SIGTERM; stop() waits for the requests in progress.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.stop(20);
            threads.shutdown();
            System.out.println(version + " has answered everyone and ends");
        }));
        server.start();
        System.out.println(version + " listens on port " + port);
    }
}
