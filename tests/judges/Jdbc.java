import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;

/**
 * Uses a server as a BI tool does: the Flight SQL JDBC driver, its catalog and a query with a parameter.
 *
 * <p>usage: java -cp flight-sql-jdbc-driver.jar Jdbc.java 127.0.0.1:8815 TOPIC KEY
 */
public final class Jdbc {
  private static final List<String> VERDICT = new ArrayList<>();

  public static void main(String[] arguments) throws SQLException {
    String url = "jdbc:arrow-flight-sql://" + arguments[0] + "/?useEncryption=false";
    String topic = arguments[1];
    try (Connection connection = DriverManager.getConnection(url)) {
      say("tables", tables(connection));
      say("columns", columns(connection, topic));
      say("count", "[" + String.join(",", one(connection, "select count(*) from " + topic)) + "]");
      say("key_seqs", "[" + String.join(",", seqs(connection, topic, arguments[2])) + "]");
    }
    System.out.println("{" + String.join(",", VERDICT) + "}");
  }

  private static String tables(Connection connection) throws SQLException {
    List<String> names = new ArrayList<>();
    try (ResultSet found = connection.getMetaData().getTables(null, null, "%", null)) {
      while (found.next()) {
        names.add(quoted(found.getString("TABLE_CAT") + "." + found.getString("TABLE_SCHEM") + "." + found.getString("TABLE_NAME")));
      }
    }
    return "[" + String.join(",", names) + "]";
  }

  private static String columns(Connection connection, String topic) throws SQLException {
    List<String> names = new ArrayList<>();
    try (ResultSet found = connection.getMetaData().getColumns(null, null, topic, "%")) {
      while (found.next()) {
        names.add(quoted(found.getString("COLUMN_NAME")));
      }
    }
    return "[" + String.join(",", names) + "]";
  }

  private static List<String> one(Connection connection, String query) throws SQLException {
    List<String> values = new ArrayList<>();
    try (ResultSet rows = connection.createStatement().executeQuery(query)) {
      while (rows.next()) {
        values.add(rows.getString(1));
      }
    }
    return values;
  }

  private static List<String> seqs(Connection connection, String topic, String key) throws SQLException {
    List<String> values = new ArrayList<>();
    String query = "select _seq from " + topic + " where _key = ? order by _seq";
    try (PreparedStatement statement = connection.prepareStatement(query)) {
      statement.setString(1, key);
      try (ResultSet rows = statement.executeQuery()) {
        while (rows.next()) {
          values.add(Long.toString(rows.getLong(1)));
        }
      }
    }
    return values;
  }

  private static void say(String name, String json) {
    VERDICT.add(quoted(name) + ":" + json);
  }

  private static String quoted(String text) {
    return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }
}
