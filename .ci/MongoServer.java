import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/** A server that speaks MongoDB's protocol and keeps everything in memory, for the tests; prints its URL when it listens. */
class Server {
    /** What it says it is: the oldest version that is supported, without a replica set. */
    static final class Oldest implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    public static void main(String[] args) throws InterruptedException {
        MemoryBackend backend = new MemoryBackend();
        backend.version(new Oldest());
        MongoServer server = new MongoServer(backend);
        server.bind("127.0.0.1", Integer.parseInt(args[0]));
        System.out.println(server.getConnectionString());
        Thread.currentThread().join();
    }
}
